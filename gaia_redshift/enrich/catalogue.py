"""`enrich_catalogue`: redshifts beside the rows of a user's catalogue, of any length."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift._files import (
    check_apart,
    check_target,
    expand_path,
    one_line,
    written_whole,
)
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.enrich.binary import FitsCatalogue, ParquetCatalogue
from gaia_redshift.enrich.predictions import (
    Addition,
    Cells,
    LocalPredictions,
    clear_duplicates,
    describe_output,
    predict_from_archive,
)
from gaia_redshift.enrich.text import TextCatalogue
from gaia_redshift.enrich.votable import VOTableCatalogue
from gaia_redshift.errors import GaiaRedshiftError, InputError, MissingColumnError
from gaia_redshift.flags import count_flags, tell_flags
from gaia_redshift.readers.columns import (
    DEC_NAMES,
    ID_NAMES,
    RA_NAMES,
    choose_ids,
    find_name,
    tell_unused_ids,
)
from gaia_redshift.readers.content import report_damage
from gaia_redshift.readers.values import find_factor
from gaia_redshift.tables.columns import Column

__all__ = ["Enrichment", "enrich_catalogue"]

_ENDINGS = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    ".ecsv": "ecsv",
    **dict.fromkeys((".fits", ".fit"), "FITS"),
    **dict.fromkeys((".vot", ".votable", ".xml"), "VOTable"),
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
}
_POSITION_COLUMNS = (
    Column(
        "source_id",
        np.dtype("i8"),
        "",
        "Gaia source nearest to the position",
        "meta.id;meta.main",
        null=0,
    ),
    Column(
        "separation_gaia",
        np.dtype("f8"),
        "arcsec",
        "Distance of the Gaia source from the position",
        "pos.angDistance",
    ),
)


class Format(Protocol):
    """A catalogue file that can be copied with columns added."""

    names: list[str]

    def unit(self, name: str) -> str:
        """Return the unit of a column; empty where the file says none."""

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""


@dataclass
class Enrichment:
    """What was added.

    Parameters
    ----------
    output : Path
    columns : list of str
        The names of the new columns.
    n_rows, n_redshifts : int
    flags : dict
        How many rows carry each flag, by its name in lower case.
    """

    output: Path
    columns: list[str]
    n_rows: int = 0
    n_redshifts: int = 0
    flags: dict[str, int] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        """Rows whose spectra the archive did not deliver; asking again may help."""
        return self.flags.get("fetch_failed", 0)

    def summary(self) -> str:
        """Return one line."""
        words = tell_flags(self.flags)
        return f"{self.n_rows:,} rows, {self.n_redshifts:,} with a redshift; flags: {words}"

    def count(self, values: dict[str, NDArray[Any]], suffix: str) -> None:
        """Add a block."""
        redshift = values[f"redshift_cnn{suffix}"]
        self.n_rows += len(redshift)
        self.n_redshifts += int(np.isfinite(redshift).sum())
        for name, n in count_flags(values[f"flags_cnn{suffix}"]).items():
            self.flags[name] = self.flags.get(name, 0) + n


@preserve_settings()
def enrich_catalogue(
    catalogue: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    spectra: Any = "archive",
    model: Any = "default",
    source_id: str | None = None,
    ra: str | None = None,
    dec: str | None = None,
    suffix: str = "",
    prior: Any = None,
    std: bool = False,
    archive: Mapping[str, Any] | None = None,
    any_release: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Enrichment:
    """Add redshifts and flags to a catalogue, leaving all else as it is.

    Parameters
    ----------
    catalogue : path
        csv, ECSV, FITS, VOTable (each also gzipped) or Parquet, with Gaia source ids or, for
        spectra from the archive, with positions in degrees.
    output : path
        A file of the same format. Rows, their order, columns, units and metadata are those of the
        catalogue; the new columns come last.
    spectra : "archive" or what `gaia_redshift.read_spectra` takes
        Where the spectra are.
    model : str, path or model
        As for `gaia_redshift.predict_table`.
    source_id, ra, dec : str, optional
        Names of the catalogue's columns, where they are not the usual ones. Positions are used
        where there are no ids; then ``source_id`` and ``separation_gaia`` are added, too.
    suffix : str
        To be put behind the names of the new columns.
    prior, std
        As for `gaia_redshift.predict_table`.
    archive : mapping, optional
        Options of `gaia_redshift.fetch_spectra`: ``release``, ``cache``, ``offline``, ``radius``,
        ``settings``, ``login``.
    any_release : bool
        As for `gaia_redshift.predict_table`.
    overwrite : bool
        Replace an existing file.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Enrichment
        Counts, and `Enrichment.summary`.

    Raises
    ------
    InputError
        If a file cannot be read or written, has no ids, or has columns of these names already.
    ArchiveError
        If the archive answers nothing at all; what came before is in the cache.

    Notes
    -----
    The catalogue is copied in blocks of some thousand rows: memory does not grow with its length,
    but for 8 bytes a row where spectra are local. A row without an id has the flag
    ``unknown_source_id``, one without a local spectrum ``missing_bp`` and ``missing_rp``. The flag
    ``duplicate_source_id`` is not given: it would need the whole catalogue.
    """
    from gaia_redshift.predict import load_for_prediction

    source, target = expand_path(catalogue), expand_path(output)
    kind = _check_files(source, target, overwrite)
    with ExitStack() as stack:
        names = [name.lower() for name in (source_id, ra, dec) if name] or [*ID_NAMES, *RA_NAMES]
        opened = _open(source, kind, stack, names)
        wanted = _find_wanted(opened, source, source_id, ra, dec)
        loaded = load_for_prediction(model)
        asked = ({} if prior is None else {"prior": prior}) | ({"std": True} if std else {})
        options = {**asked, "any_release": any_release}
        columns, meta = describe_output(loaded, asked)
        local = not (isinstance(spectra, str) and spectra == "archive")
        if len(wanted) == 2:
            if local:
                raise InputError(f"{source}: has no column of source ids to look spectra up by")
            columns = [*_POSITION_COLUMNS, *columns]
        new = [replace(column, name=f"{column.name}{suffix}") for column in columns]
        taken = [column.name for column in new if column.name in opened.names]
        if taken:
            raise InputError(
                f"{source}: has a column '{taken[0]}' already; give a suffix for the new ones"
            )
        result = Enrichment(target, [column.name for column in new])
        if local:
            file = stack.enter_context(tempfile.TemporaryFile())
            predictions = LocalPredictions(loaded, columns, wanted[0], label=str(source), file=file)
            cells = report_damage(opened.scan(wanted), str(source), kind)
            predictions.read(spectra, cells, options, progress=progress)
            find: Any = predictions.compute
        else:
            find = partial(
                predict_from_archive,
                model=loaded,
                new=columns,
                names=wanted,
                units=[opened.unit(name) for name in wanted],
                label=str(source),
                options={**options, "archive": dict(archive or {})},
            )
        bar = stack.enter_context(open_bar(desc="catalogue", unit=" rows", disable=not progress))

        def compute(cells: Cells) -> dict[str, NDArray[Any]]:
            found = clear_duplicates(find(cells))
            values = {f"{name}{suffix}": array for name, array in found.items()}
            result.count(values, suffix)
            bar.update(len(next(iter(values.values()))))
            return values

        _write(opened, source, target, Addition(wanted, new, compute, meta))
    return result


def _check_files(source: Path, target: Path, overwrite: bool) -> str:
    """Return the format of both."""
    kinds = []
    for path in (source, target):
        name = path.name.lower().removesuffix(".gz")
        kind = _ENDINGS.get(Path(name).suffix)
        if kind is None or (kind == "Parquet" and path.name.lower().endswith(".gz")):
            raise InputError(
                f"{path}: unknown ending; catalogues are .csv, .ecsv, .fits, .vot, .xml (each also"
                " with .gz) or .parquet"
            )
        kinds.append(kind)
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{target}: the output must be of the catalogue's own format ({kinds[0]}), so that"
            " nothing of it is lost"
        )
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    check_target(target, overwrite)
    check_apart(target, [source])
    return kinds[0]


def _open(source: Path, kind: str, stack: ExitStack, likely: Sequence[str]) -> Format:
    try:
        if kind == "FITS":
            return FitsCatalogue(source, stack, likely)
        if kind == "VOTable":
            return VOTableCatalogue(source, likely)
        if kind == "Parquet":
            return ParquetCatalogue(source)
        return TextCatalogue(source, ecsv=kind == "ecsv")
    except (GaiaRedshiftError, MemoryError):
        raise
    except Exception as error:  # what is damaged can raise anything
        raise InputError(f"{source}: cannot be read as {kind}: {one_line(error)}") from error


def _find_wanted(
    opened: Format, source: Path, source_id: str | None, ra: str | None, dec: str | None
) -> list[str]:
    """Return the name of the column of ids, or those of the positions."""

    def find(given: str | None, usual: Sequence[str]) -> str | None:
        if given is None:
            return find_name(opened.names, usual)
        found = find_name(opened.names, (given,))
        if found is None:
            shown = ", ".join(opened.names[:12])
            raise MissingColumnError(f"{source}: no column '{given}'; there are: {shown}", given)
        return found

    positions = ra is not None or dec is not None
    found = find(source_id, ())
    if found is None and not positions:
        found = choose_ids(opened.names, lambda name: next(opened.scan([name]), {}).get(name, []))
    if found is not None:
        return [found]
    place = [name for name in (find(ra, RA_NAMES), find(dec, DEC_NAMES)) if name is not None]
    if len(place) < 2:
        raise MissingColumnError(
            f"{source}: has neither source ids nor positions; there are:"
            f" {', '.join(opened.names[:12])}",
            "source_id",
        )
    if not positions:
        tell_unused_ids(opened.names, str(source))
    for name in place:
        find_factor(opened.unit(name), name, str(source))  # before any work
    return place


def _write(opened: Format, source: Path, target: Path, added: Addition) -> None:
    """Write the file, which appears under its name only when it is complete."""
    try:
        with written_whole(target, packed=target.name.lower().endswith(".gz")) as part:
            opened.rewrite(part, added)
    except (OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"cannot write {target}: {one_line(error)}") from error
        if isinstance(error, GaiaRedshiftError):
            raise
        raise InputError(f"{source}: cannot be read to its end: {one_line(error)}") from error
