"""The other columns of the input, kept on request, with their types, units and descriptions."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._quiet import import_tables
from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged
from gaia_redshift.readers.columns import Block, ColumnInfo, from_arrow
from gaia_redshift.tables.types import AS_WRITTEN, cast_column, simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["build_kept_columns"]

logger = logging.getLogger(__name__)

_BLANK = (b"", b"null", b"--")


def build_kept_columns(block: Block) -> Table | None:
    """Return the block's kept columns as a table, or None; masked where they are blank or null.

    Cells of csv files stay text, marked as such: what type a column has only all of it can tell
    (`gaia_redshift.tables.columns.settle_types`).
    """
    if not block.layout.keep:
        return None
    import_tables()
    from astropy.table import Table

    table = Table()
    n = len(block)
    for name, actual in block.layout.keep.items():
        info = block.infos.get(actual, ColumnInfo())
        try:
            column, as_written = _to_scalars(block.columns[actual], name, info.dtype)
        except InputError as error:
            if not block.layout.keep_all:
                raise InputError(f"{block.label}: {error}") from None
            logger.warning("%s: %s", block.label, error)
            continue
        if column is None or len(column) != n:
            if block.layout.keep_all:
                logger.info("%s: column '%s' holds arrays and is not kept", block.label, name)
                continue
            raise InputError(f"{block.label}: column '{name}' holds arrays, which cannot be kept")
        table[name] = column
        if info.unit:
            from astropy.units import Unit

            table[name].unit = Unit(info.unit, parse_strict="silent")
        if info.description:
            table[name].description = info.description
        if info.ucd:
            table[name].meta["ucd"] = info.ucd
        if as_written:
            table[name].meta[AS_WRITTEN] = True
    return table if table.colnames else None


def _to_scalars(column: Any, name: str, dtype: str | None) -> tuple[Any, bool]:
    """Return a 1-D array or masked array, and whether it is text as written in a csv file.

    None stands for a column of arrays.
    """
    if isinstance(column, Ragged):
        return None, False
    if type(column).__module__.startswith("pyarrow"):
        import pyarrow as pa

        if pa.types.is_nested(column.type):
            return None, False
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column = from_arrow(column)
    elif isinstance(column, list):  # text formats: bytes
        return _take_text(column, dtype)
    if isinstance(column, list):
        cells = np.empty(len(column), dtype=object)
        cells[:] = column
        column = cells
    if getattr(column, "ndim", 1) != 1:
        return None, False
    if np.ma.getdata(column).dtype.kind == "O" and any(
        isinstance(cell, np.ndarray | list | tuple | dict) for cell in np.ma.getdata(column)
    ):
        return None, False
    return simplify_column(column, name), False


def _take_text(cells: Sequence[bytes | None], dtype: str | None) -> tuple[Any, bool]:
    """Return cells as text, or as the type that the header of an ECSV file states."""
    texts = [(cell or b"").strip() for cell in cells]
    absent = np.array([t.lower() in _BLANK for t in texts], dtype=bool)
    present = [t for t, hidden in zip(texts, absent, strict=True) if not hidden]
    if dtype == "array" or (present and all(t[:1] + t[-1:] in (b"()", b"[]") for t in present)):
        return None, False
    decoded = [t.decode("utf-8", "backslashreplace") for t in present]
    filled = np.zeros(len(cells), dtype=np.array(decoded).dtype if decoded else "U1")
    filled[~absent] = decoded
    values = np.ma.MaskedArray(filled, mask=absent) if absent.any() else filled
    if dtype is None:
        return values, True
    if re.fullmatch(r"(u?int|float)\d+|bool", dtype) and not re.fullmatch(r"float128", dtype):
        try:
            return cast_column(values, np.dtype(dtype)), False
        except (ValueError, OverflowError, KeyError, TypeError):  # not what the header says
            return values, True
    return values, False
