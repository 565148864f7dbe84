"""`predict_to_file`: any amount of spectra to one file of redshifts, in bounded memory."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import check_apart, expand_path, one_line
from gaia_redshift._quiet import ignore_warnings, preserve_settings
from gaia_redshift.clean import find_clean, find_level, format_clean
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import QualityFlag, count_flags
from gaia_redshift.predict.inputs import describe_plan
from gaia_redshift.predict.journal import Journal
from gaia_redshift.predict.outputs import find_repeated, fit_columns, join_columns
from gaia_redshift.predict.progress import Progress
from gaia_redshift.predict.settings import Settings, make_settings
from gaia_redshift.predict.stream import iter_steps
from gaia_redshift.readers.sources import list_inputs
from gaia_redshift.tables.columns import Block, describe_column, take_table
from gaia_redshift.tables.files import check_output, open_sink, table_format, write_blocks
from gaia_redshift.tables.stacks import settle_types

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.tables import PredictedRows

__all__ = ["BLOCK_SIZE", "FileSummary", "predict_to_file", "run_to_file"]

logger = logging.getLogger(__name__)

BLOCK_SIZE = 1024
"""Larger ones are no faster, and both processors wait longer for the first and the last one."""


@dataclass
class FileSummary:
    """What `predict_to_file` has done.

    Attributes
    ----------
    output : Path
        The file written.
    n_rows, n_masked, n_usable : int
        Sources, those of them without a redshift, and those that `gaia_redshift.select_clean` calls
        usable.
    n_written : int
        Rows of the output; fewer than ``n_rows`` where only a clean sample was asked for.
    n_resumed : int
        Sources that an earlier, unfinished run had predicted.
    flags : dict
        For each flag, in lower case, the number of sources that carry it, where there are any.
    failed : dict
        For each input that could not be read, the reason. No row of it is in the output.
    """

    output: Path
    n_rows: int = 0
    n_masked: int = 0
    n_usable: int = 0
    n_written: int = 0
    n_resumed: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def count(self, table: Table) -> None:
        """Add the rows of a table."""
        self.n_rows += len(table)
        self.n_masked += int(np.ma.getmaskarray(np.ma.asarray(table["redshift_cnn"])).sum())
        self.n_usable += int(find_clean(table, "usable").sum())
        for name, n in count_flags(table["flags_cnn"]).items():
            self.flags[name] = self.flags.get(name, 0) + n


@preserve_settings()
def predict_to_file(
    sources: Any,
    output: str | os.PathLike[str],
    *,
    model: Any = "default",
    keep: str | Sequence[str] | None = None,
    flux_errors: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    block_size: int | None = None,
    progress: bool = False,
    archive: Mapping[str, Any] | None = None,
    clean: str | None = None,
    **options: Any,
) -> FileSummary:
    """Predict any number of sources and write the table, in memory that does not grow.

    Inputs are read ahead while others are predicted. Results are written as they come, into a
    folder beside the output; when all are there they become the output, and the folder goes. A run
    that was killed, at whatever moment, goes on with ``resume=True``.

    Parameters
    ----------
    sources : path, list of paths, or anything else that `gaia_redshift.predict_table` takes
        Files, folders and patterns of files. VOTables, and FITS, HDF5 and Parquet inside zip or
        gzip, are held in memory whole, one at a time.
    output : path
        ``.parquet``, ``.fits``, ``.vot``, ``.ecsv``, ``.csv`` (the latter four also with ``.gz``);
        ``.h5`` is put together in memory at the end.
    model, keep, flux_errors, archive
        As for `gaia_redshift.predict_table`.
    resume : bool
        Go on with an unfinished run of this output. Inputs, model and options must be the same.
    overwrite : bool
        Replace an existing output, and discard an unfinished run.
    block_size : int, optional
        Sources in memory at a time; by default 1024.
    progress : bool
        Show a progress bar with rate and remaining time.
    clean : str, optional
        Write only the rows of this level of `gaia_redshift.select_clean`.
    **options
        Further arguments of `gaia_redshift.predict_table`.

    Returns
    -------
    FileSummary
        Among other things the inputs that could not be read.

    Raises
    ------
    InputError
        If nothing could be read, an input does not exist, the output cannot be written, or an
        unfinished run is here and is neither to be continued nor discarded, or is one of other
        inputs or options.
    ModelError
        If the model cannot be loaded.
    ArchiveError
        If spectra are to be fetched and the archive does not answer.

    Warns
    -----
    GaiaRedshiftWarning
        For each input that could not be read; the others are predicted.

    Notes
    -----
    Rows are in the order of the inputs, as `gaia_redshift.predict_table` gives them. Sources that
    occur more than once are found when all is done, from their ids alone (8 bytes each, and never
    more than 33 million of them in memory).

    Examples
    --------
    >>> from gaia_redshift import predict_to_file
    >>> predict_to_file("bulk/XpContinuousMeanSpectrum_*.csv.gz", "z.parquet")  # doctest: +SKIP
    """
    if clean is not None:
        find_level(clean)
    inputs = list_inputs(sources)
    settings = make_settings(
        model,
        keep=keep,
        flux_errors=flux_errors,
        block_size=BLOCK_SIZE if block_size is None else block_size,
        archive=archive,
        **options,
    )

    def complain(message: str) -> None:
        warnings.warn(f"left out: {message}", GaiaRedshiftWarning, stacklevel=5)

    return run_to_file(
        inputs,
        output,
        settings,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        complain=complain,
        clean=clean,
    )


def run_to_file(
    inputs: Sequence[Any],
    output: str | os.PathLike[str],
    settings: Settings,
    *,
    resume: bool,
    overwrite: bool,
    progress: bool,
    complain: Callable[[str], None],
    note: Callable[[str], None] | None = None,
    collect: Callable[[Table], None] | None = None,
    clean: str | None = None,
) -> FileSummary:
    """Do the work of `predict_to_file` for single inputs.

    ``complain`` is told in one line of each input that cannot be read, ``note`` given the account
    of what was fetched as soon as it is there, and ``collect`` each table as it goes into the
    output, duplicates flagged.
    """
    target = expand_path(output)
    check_output(target, overwrite=overwrite)
    check_apart(target, inputs)
    plan = describe_plan(inputs, settings)
    if resume and any(about.get("in_memory") for about in plan["inputs"]):
        raise InputError("resume needs files or source ids: tables in memory cannot be told apart")
    storable = _Storable(target)
    journal = Journal(target, plan, resume=resume, restart=overwrite)
    try:
        summary = FileSummary(target, n_resumed=journal.n_rows)
        if summary.n_resumed:
            logger.info("%s: goes on after %d sources", target, summary.n_resumed)
        for index, why in journal.failed.items():
            complain(_name_failure(inputs[index], why))
        bar = Progress(inputs, shown=progress, done=summary.n_resumed)
        with (
            closing(bar),
            closing(iter_steps(inputs, settings, start=journal.position, progress=bar)) as steps,
        ):
            for step in steps:
                if step.rows is not None:
                    storable.check(step.rows)
                    journal.append(step.index, step.rows)
                    bar.update(len(step.rows))
                    if note is not None and "archive_account" in step.rows.meta:
                        note(step.rows.meta["archive_account"])
                if step.ended:
                    journal.end(step.index, step.failure)
                    if step.failure is not None:
                        complain(_name_failure(inputs[step.index], step.failure))
        journal.flush()
        summary.failed = {_name(inputs[i]): why for i, why in journal.failed.items()}
        if not any(map(journal.count_rows, journal.parts)):
            journal.parts.clear()  # nothing that a later run could use
            raise InputError(
                "no input could be read" if journal.failed else "the input holds no spectra"
            )
        _assemble(journal, target, summary, collect, clean)
    except BaseException:
        with suppress(InputError):
            journal.flush()  # what is there is kept, for the next try
        if journal.parts:
            journal.close()
        else:
            journal.remove()
        raise
    journal.remove()
    return summary


class _Storable:
    """Finds out as soon as columns appear whether the output's format can hold them."""

    def __init__(self, target: Path) -> None:
        self.target, self.kind = target, table_format(target)
        self._seen: set[Any] = set()

    def check(self, rows: PredictedRows) -> None:
        """Write two rows of columns that are new to nowhere."""
        columns = rows.columns
        names = (
            () if columns is None else tuple((n, columns[n].dtype.str) for n in columns.colnames)
        )
        if names in self._seen:
            return
        self._seen.add(names)
        try:
            with tempfile.TemporaryDirectory() as folder, ignore_warnings():
                table = settle_types(rows.to_table()[:2])
                described, block = take_table(table)
                sink = open_sink(self.kind, Path(folder) / "example", described, table.meta)
                with closing(sink):
                    sink.write(block)
        except Exception as error:
            raise InputError(
                f"cannot write {self.target} as {self.kind}: {one_line(error)}"
            ) from error


def _assemble(
    journal: Journal,
    target: Path,
    summary: FileSummary,
    collect: Callable[[Table], None] | None,
    clean: str | None,
) -> None:
    """Make one file of the parts, and flag sources that occur more than once."""
    parts = [part for part in journal.parts if journal.count_rows(part)]
    n_rows = sum(map(journal.count_rows, parts))
    repeated = find_repeated(journal.read_ids, n_rows)
    example = journal.read_example()
    if clean is not None:
        n_rows = sum(int(find_clean(table, clean).sum()) for table in journal.read_parts())
        example.meta["clean_sample"] = format_clean(clean, example.colnames)
    summary.n_written = n_rows

    columns = join_columns(part["columns"] for part in parts)

    def iter_blocks() -> Iterator[Block]:
        for part in journal.read_parts():
            table = fit_columns(part, columns)
            table["flags_cnn"] |= _flag_repeated(np.asarray(table["source_id"]), repeated)
            summary.count(table)
            if clean is not None:
                table = table[find_clean(table, clean)]
            if collect is not None:
                collect(table)
            yield {name: np.ma.asarray(table[name]) for name in columns}

    described = [describe_column(example[name], note) for name, note in columns.items()]
    write_blocks(iter_blocks(), target, described, example.meta)


def _flag_repeated(source_id: NDArray[np.int64], repeated: NDArray[np.int64]) -> NDArray[np.int32]:
    if not len(repeated):
        return np.zeros(len(source_id), dtype=np.int32)
    where = np.minimum(np.searchsorted(repeated, source_id), len(repeated) - 1)
    found = repeated[where] == source_id
    return np.where(found, np.int32(QualityFlag.DUPLICATE_SOURCE_ID), np.int32(0))


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _name_failure(source: Any, why: str) -> str:
    """Return why an input failed, with its name."""
    named = isinstance(source, Path) and source.name not in why
    return f"{source}: {why}" if named else why
