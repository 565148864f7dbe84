"""Write output tables to files and read them back: `write_table`, `read_table`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gaia_redshift._files import check_new, escape_controls, is_utf8, one_line, written_whole
from gaia_redshift._quiet import ignore_warnings, import_tables, preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.readers.pipes import take_file
from gaia_redshift.table_formats import (
    FORMATS,
    NOT_GZIPPED,
    READERS,
    WRITERS,
    take_plain_columns,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["check_output", "read_table", "table_format", "write_table"]


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


def _tell_format(path: Path) -> str:
    """Tell what came through a pipe, which has no ending, from its first bytes."""
    from gaia_redshift.readers.content import open_path
    from gaia_redshift.readers.formats import sniff_kind

    return sniff_kind(open_path(path))


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out, before any work, whether `write_table` can write there."""
    table_format(path)
    target = Path(path)
    if not is_utf8(str(target)):
        raise InputError(f"{escape_controls(str(target))}: its name is not UTF-8: choose another")
    check_new(target, overwrite)
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write {target}: no permission to write in {target.parent}")


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
    kind, target = table_format(path), Path(path)
    try:
        with (
            ignore_warnings(),  # of names and units that are not usual
            written_whole(target, packed=target.name.lower().endswith(".gz")) as temporary,
        ):
            WRITERS[kind](take_plain_columns(table), temporary)
    except OSError as error:
        raise InputError(f"cannot write {target}: {one_line(error)}") from error
    except Exception as error:
        raise InputError(f"cannot write {target} as {kind}: {one_line(error)}") from error


@preserve_settings()
def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table that `write_table` wrote, with its provenance, masks, units and UCDs.

    Parameters
    ----------
    path : path
        ``-`` is standard input.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If the ending is unknown or the file cannot be read.
    """
    import_tables()
    source = take_file(path)
    kind = table_format(path) if source == Path(path) else _tell_format(source)
    try:
        table = READERS[kind](source)
    except Exception as error:
        raise InputError(f"cannot read {os.fspath(path)} as {kind}: {one_line(error)}") from error
    for name in table.colnames:
        if name.startswith("redshift_cnn") and table[name].dtype.kind == "f":
            table[name].info.format = ".4f"  # as shown; they hold every digit
    return table
