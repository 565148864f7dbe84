"""Write output tables to files: `write_table`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gaia_redshift._files import check_new, escape_controls, is_utf8, one_line, written_whole
from gaia_redshift._quiet import ignore_warnings, import_tables, preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.tables.formats import (
    FORMATS,
    NOT_GZIPPED,
    WRITERS,
    take_plain_columns,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["check_output", "table_format", "write_table"]


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
