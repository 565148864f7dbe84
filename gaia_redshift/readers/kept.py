"""The other columns of the input, kept on request, with their types, units and descriptions."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged, to_arrow_strings
from gaia_redshift.readers.columns import Block, ColumnInfo, from_arrow

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["TextKinds", "build_kept_columns"]

logger = logging.getLogger(__name__)

TextKinds = dict[str, str]
"""Types of a table's text columns so far: "null", "bool", "int", "float" or "str"."""

_ORDER = ("null", "bool", "int", "float", "str")
_TRUE, _FALSE = (b"true", b"t"), (b"false", b"f")


def build_kept_columns(block: Block, kinds: TextKinds) -> Table | None:
    """Return the block's kept columns as a table, or None; masked where they are blank or null.

    Raises
    ------
    InputError
        If a column that was asked for by name holds arrays.
    """
    if not block.layout.keep:
        return None
    from astropy.table import Table

    table = Table()
    n = len(block)
    for name, actual in block.layout.keep.items():
        info = block.infos.get(actual, ColumnInfo())
        column = _to_scalars(block.columns[actual], name, kinds, info.dtype)
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
    return table if table.colnames else None


def _to_scalars(  # noqa: PLR0911 (one per kind)
    column: Any, name: str, kinds: TextKinds, dtype: str | None
) -> Any:
    """Return a 1-D array, masked array or astropy column; None if the column holds arrays."""
    if isinstance(column, Ragged):
        return None
    if type(column).__module__.startswith("pyarrow"):
        import pyarrow as pa

        if pa.types.is_nested(column.type):
            return None
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column = from_arrow(column)
    elif isinstance(column, list):  # text formats: bytes
        return _parse_text_column(column, name, kinds, dtype)
    if not isinstance(column, list):
        if getattr(column, "ndim", 1) != 1:
            return None
        if getattr(column, "dtype", np.dtype("f8")).kind != "O":
            data = np.ma.getdata(column)
            if data.dtype.byteorder in "<>" and not data.dtype.isnative:
                native = data.astype(data.dtype.newbyteorder("="))
                masked = np.ma.isMaskedArray(column)
                return np.ma.MaskedArray(native, column.mask) if masked else native
            return column
        hidden = np.ma.getmaskarray(column) if np.ma.isMaskedArray(column) else None
        cells = np.ma.getdata(column).tolist()
        if hidden is not None:
            cells = [None if h else c for c, h in zip(cells, hidden, strict=True)]
        column = cells
    return _from_objects(column)


def _from_objects(cells: list[Any]) -> Any:
    """Give objects a proper type: None and NA are masked; strings where types are mixed."""
    if any(isinstance(c, np.ndarray | list | tuple | dict) for c in cells):
        return None
    absent = np.array([_is_null(c) for c in cells], dtype=bool)
    present = [c for c, hidden in zip(cells, absent, strict=True) if not hidden]
    array = np.array(present) if present else np.zeros(0)
    if array.dtype.kind not in "biufSU":
        array = np.array([str(c) for c in present])
    if array.dtype.kind == "S":
        array = np.char.decode(array.astype(bytes), "utf-8")
    out = np.zeros(len(cells), dtype=array.dtype)
    out[~absent] = array
    return np.ma.MaskedArray(out, mask=absent) if absent.any() else out


def _is_null(cell: Any) -> bool:
    if cell is None or cell is np.ma.masked or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float) and np.isnan(cell)


def _parse_text_column(
    cells: Sequence[bytes | None], name: str, kinds: TextKinds, dtype: str | None
) -> Any:
    """Find the narrowest type that holds every value, never narrower than in earlier blocks."""
    texts = [(cell or b"").strip() for cell in cells]
    absent = np.array([not t or t.lower() in (b"null", b"--") for t in texts], dtype=bool)
    present = [t for t, hidden in zip(texts, absent, strict=True) if not hidden]
    if dtype == "array" or (present and all(t[:1] + t[-1:] in (b"()", b"[]") for t in present)):
        return None
    kind = kinds.get(name, "str" if dtype == "string" else "null")
    values: Any = None
    strings = to_arrow_strings(present) if present else None
    for candidate in _ORDER[_ORDER.index(kind) :]:
        values = _try_kind(candidate, present, strings)
        if values is not None:
            kind = candidate
            break
    kinds[name] = kind
    if dtype is not None and re.fullmatch(r"(u?int|float)\d+", dtype) and kind in ("int", "float"):
        values = values.astype(dtype)  # as an ECSV header says
    out = np.zeros(len(cells), dtype=values.dtype if len(values) else _EMPTY[kind])
    if out.dtype.kind == "f":
        out[absent] = np.nan
    out[~absent] = values
    if out.dtype.kind != "f" and absent.any():
        return np.ma.MaskedArray(out, mask=absent)
    return out


_EMPTY = {"null": "f8", "bool": "?", "int": "i8", "float": "f8", "str": "U1"}


def _try_kind(kind: str, present: list[bytes], strings: Any) -> Any:
    """Return the values as that type, or None if it does not hold them."""
    import pyarrow as pa

    values: Any = None
    if not present:
        values = np.zeros(0, dtype=_EMPTY[kind])
    elif kind == "bool":
        lowered = [t.lower() for t in present]
        if all(t in _TRUE or t in _FALSE for t in lowered):
            values = np.array([t in _TRUE for t in lowered])
    elif kind == "str":
        values = np.array([t.decode("utf-8", errors="replace") for t in present])
    elif kind != "null" and (kind == "int" or not any(_is_long_id(t) for t in present)):
        with suppress(pa.ArrowInvalid):
            target = pa.int64() if kind == "int" else pa.float64()
            numbers = np.dtype("i8" if kind == "int" else "f8")
            values = np.frombuffer(strings.cast(target).buffers()[1], numbers)[: len(present)]
    return values


def _is_long_id(text: bytes) -> bool:
    """Tell identifiers that a float could not hold: they stay text."""
    return len(text) > 15 and text.lstrip(b"+-").isdigit()
