"""Tables: what a column is, the columns that predictions have, and how they are written.

Modules: ``types`` (what values a column holds, in parts or whole), ``columns`` (to and from
astropy's tables, and stacked), ``predictions`` (the output table), and the formats that are
written: ``arrow`` (Parquet, csv, ECSV), ``fits``, ``hdf5`` and ``votable``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._files import check_target, one_line, written_whole
from gaia_redshift._quiet import ignore_warnings, import_tables, preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.tables.arrow import ParquetSink, TextSink
from gaia_redshift.tables.columns import Block, Column, Sink, take_table
from gaia_redshift.tables.fits import FITSSink
from gaia_redshift.tables.hdf5 import open_hdf5
from gaia_redshift.tables.predictions import (
    COLUMNS,
    PredictedRows,
    build_table,
    describe_provenance,
    join_meta,
    select_columns,
    stack_rows,
)
from gaia_redshift.tables.votable import VOTableSink

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "COLUMNS",
    "PredictedRows",
    "build_table",
    "check_output",
    "describe_provenance",
    "join_meta",
    "select_columns",
    "stack_rows",
    "write_table",
]

FORMATS = {
    ".ecsv": "ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".csv": "csv",
}
NOT_GZIPPED = {"parquet", "hdf5"}


def table_format(path: str | os.PathLike[str]) -> str:
    """Return the format that a file name stands for: "ecsv", "fits", "votable", ..."""
    name = os.fspath(path).lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in FORMATS or (name.endswith(".gz") and FORMATS[suffix] in NOT_GZIPPED):
        raise InputError(
            f"cannot tell a table format from '{os.fspath(path)}': use"
            f" {', '.join(FORMATS)} (or .gz after those of text, FITS and VOTable)"
        )
    return FORMATS[suffix]


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out, before any work, whether `write_table` can write there."""
    table_format(path)
    check_target(Path(path), overwrite)


@preserve_settings()
def write_table(table: Table, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a table so that provenance, masks, units and UCDs survive.

    Parameters
    ----------
    table : Table
        As `predict_table` returns it.
    path : path
        ``.ecsv``, ``.fits``, ``.vot`` or ``.xml`` (VOTable), ``.parquet``, ``.h5``, or ``.csv``
        (values alone, masked ones empty); ``.gz`` may follow where it is text, FITS or VOTable.
    overwrite : bool
        Replace an existing file. The new file appears under its name only when it is complete.

    Raises
    ------
    InputError
        If the ending is unknown, the file exists, or it cannot be written.
    """
    import_tables()
    check_output(path, overwrite=overwrite)
    with explain_failure(path):
        columns, block = take_table(table)
    write_blocks([block], Path(path), columns, table.meta)


def write_blocks(
    blocks: Iterable[Block], path: Path, columns: Sequence[Column], meta: Mapping[str, Any]
) -> None:
    """Write rows as they come as one file, which appears when it is complete."""
    # Warnings would be of names and units that are not usual.
    with explain_failure(path), ignore_warnings(), written_sink(path, columns, meta) as sink:
        for block in blocks:
            sink.write(block)


@contextmanager
def written_sink(
    path: Path, columns: Sequence[Column], meta: Mapping[str, Any] | None = None
) -> Iterator[Sink]:
    """Give what writes a file, which appears when it is complete."""
    with written_whole(path) as temporary:
        sink = open_sink(table_format(path), temporary, columns, meta, packed=is_packed(path))
        try:
            yield sink
            sink.close()
        except BaseException:
            sink.abort()
            raise


@contextmanager
def explain_failure(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make one `InputError`, with the file's name, of whatever keeps a table from being written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {one_line(error)}") from error
    except Exception as error:
        why = one_line(error)
        raise InputError(f"cannot write {path} as {table_format(path)}: {why}") from error


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is to be packed with gzip."""
    return os.fspath(path).lower().endswith(".gz")


def open_sink(
    kind: str,
    path: Path,
    columns: Sequence[Column],
    meta: Mapping[str, Any] | None = None,
    *,
    packed: bool = False,
) -> Sink:
    """Open a file of a format of `table_format` for writing."""
    if kind == "parquet":
        return ParquetSink(path, columns, meta)
    if kind == "hdf5":
        return open_hdf5(path, columns, meta)
    if kind == "fits":
        return FITSSink(path, columns, meta, packed=packed)
    if kind == "votable":
        return VOTableSink(path, columns, meta, packed=packed)
    return TextSink(path, columns, meta, ecsv=kind == "ecsv", packed=packed)
