"""`predict_to_file`: any amount of spectra to one file of redshifts, in bounded memory."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import check_apart, expand_path
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.clean import find_clean, find_level
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import count_flags
from gaia_redshift.predict.journal import Journal
from gaia_redshift.predict.outputs import Storable, assemble_output
from gaia_redshift.predict.processes import settle_processes, share_steps
from gaia_redshift.predict.progress import Progress
from gaia_redshift.predict.settings import Settings, describe_plan, make_settings
from gaia_redshift.readers.sources import list_inputs, name_source
from gaia_redshift.tables import check_output

if TYPE_CHECKING:
    from astropy.table import Table


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

    def count(self, rows: Table | Mapping[str, Any]) -> None:
        """Add the rows of a table, or of columns by their names."""
        self.n_rows += len(rows["flags_cnn"])
        self.n_masked += int(np.ma.getmaskarray(np.ma.asarray(rows["redshift_cnn"])).sum())
        self.n_usable += int(find_clean(rows, "usable").sum())
        for name, n in count_flags(rows["flags_cnn"]).items():
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
    processes: int = 1,
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
    processes : int
        So many processes predict whole files side by side, where there are several; each takes one
        processor and as much memory as one alone. 0: as many as there are processors. The output is
        the same. Each process imports the script that starts it, whose work must stand under
        ``if __name__ == "__main__":``.
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
    GaiaRedshiftError
        If one of several processes ends before its work is done.
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
        processes=processes,
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
    processes: int,
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
    processes = settle_processes(processes, settings)
    target = expand_path(output)
    check_output(target, overwrite=overwrite)
    check_apart(target, inputs)
    plan = describe_plan(inputs, settings)
    if resume and any(about.get("in_memory") for about in plan["inputs"]):
        raise InputError("resume needs files or source ids: tables in memory cannot be told apart")
    storable = Storable(target)
    journal = Journal(target, plan, resume=resume, restart=overwrite)
    try:
        summary = FileSummary(target, n_resumed=journal.n_rows)
        if summary.n_resumed:
            logger.info("%s: goes on after %d sources", target, summary.n_resumed)
        for index, why in journal.failed.items():
            complain(_name_failure(inputs[index], why))
        bar = Progress(inputs, shown=progress, done=summary.n_resumed)
        steps = share_steps(
            inputs,
            settings,
            start=journal.position,
            progress=bar,
            processes=processes,
            folder=journal.folder,
        )
        with closing(bar), closing(steps):
            for step in steps:
                if step.rows is not None:
                    storable.check(step.rows)
                    journal.append(step.index, step.rows)
                    if note is not None and "archive_account" in step.rows.meta:
                        note(step.rows.meta["archive_account"])
                if step.ended:
                    journal.end(step.index, step.failure)
                    if step.failure is not None:
                        complain(_name_failure(inputs[step.index], step.failure))
        journal.flush()
        summary.failed = {name_source(inputs[i]): why for i, why in journal.failed.items()}
        if not any(map(journal.count_rows, journal.parts)):
            journal.parts.clear()  # nothing that a later run could use
            raise InputError(
                "no input could be read" if journal.failed else "the input holds no spectra"
            )
        assemble_output(journal, target, summary, collect, clean)
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


def _name_failure(source: Any, why: str) -> str:
    """Return why an input failed, with its name."""
    named = isinstance(source, Path) and source.name not in why
    return f"{source}: {why}" if named else why
