"""Columns of one value a row: source ids, numbers, degrees, masks, and those kept as they are."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import import_tables
from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged, parse_number_cells
from gaia_redshift.tables.arrow import is_number, take_numbers
from gaia_redshift.tables.columns import Column, make_column
from gaia_redshift.tables.types import AS_WRITTEN, cast_column, simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.readers.columns import Block

__all__ = [
    "build_kept_columns",
    "find_factor",
    "find_placed",
    "fold_masks",
    "from_arrow",
    "hide",
    "to_degrees",
    "to_numbers",
    "to_scalars",
    "to_source_ids",
    "to_unit_vectors",
]

logger = logging.getLogger(__name__)

_DEGREES = ("", "deg", "degree", "degrees", "none")
_HOURS = ("h", "hr", "hour", "hours", "hourangle")
"""Astronomers write right ascensions in hours of time, 15 degrees each."""
_BLANK = (b"", b"null", b"--")
_DESIGNATION = re.compile(r"^gaia\s*(?:e?dr3|dr4)\s+(?=\d)", re.IGNORECASE)
"""Words before the id in Gaia's designations; ids of earlier releases mean other sources."""


def to_numbers(column: Any) -> NDArray[np.float64]:
    """Turn a scalar column into float64, NaN where it is masked, blank or no number."""
    column = from_arrow(column)
    if isinstance(column, list):
        return parse_number_cells(column)[0]
    array = np.asanyarray(column)
    data = np.ma.getdata(array)
    if data.ndim != 1:
        return np.full(len(data), np.nan)
    if data.dtype.kind in "OSU":
        cells = [c if isinstance(c, str | bytes | None) else _to_text(c) for c in data.tolist()]
        numbers = parse_number_cells(cells)[0]
    else:
        numbers = data.astype(np.float64)
    if np.ma.isMaskedArray(array):
        numbers[np.ma.getmaskarray(array)] = np.nan
    return numbers


def _to_text(cell: Any) -> str | None:
    return None if cell is np.ma.masked else str(cell)


def from_arrow(column: Any) -> Any:
    """Take pyarrow columns as masked arrays (numbers) or lists (anything else)."""
    if not type(column).__module__.startswith("pyarrow"):
        return column
    if not is_number(column.type):
        return column.to_pylist()
    values, hidden = take_numbers(column)
    if values.dtype == np.float16:  # numpy's own fill of masked ones overflows
        values = values.astype(np.float32)
    return np.ma.MaskedArray(values, mask=hidden)


def to_source_ids(column: Any, label: str, first_row: int = 1) -> NDArray[np.int64]:
    """Turn a column into int64 source ids without ever passing through float."""
    column = from_arrow(column)
    mask = None
    if isinstance(column, list):
        cells: Any = column
    else:
        array = np.asanyarray(column)
        data = np.ma.getdata(array)
        if data.ndim != 1:
            raise InputError(f"{label}: source_id has shape {data.shape}, expected one id a row")
        mask = np.ma.getmaskarray(array) if np.ma.isMaskedArray(array) else None
        if mask is not None and mask.any():
            raise InputError(f"{label}, row {first_row + int(np.argmax(mask))}: no source_id")
        if data.dtype.kind == "i":
            return data.astype(np.int64)
        if data.dtype.kind == "u":
            if len(data) and data.max() > np.iinfo(np.int64).max:
                row = first_row + int(np.argmax(data))
                raise InputError(f"{label}, row {row}: {data.max()} is no source_id (int64)")
            return data.astype(np.int64)
        if data.dtype.kind == "f":
            return _from_floats(data, label, first_row)
        cells = data.tolist()
    ids = np.empty(len(cells), dtype=np.int64)
    if all(type(cell) is bytes and 0 < len(cell) < 19 and cell.isdigit() for cell in cells):
        return np.fromiter(map(int, cells), np.int64, len(cells))
    for i, cell in enumerate(cells):
        try:
            ids[i] = _to_id(cell)
        except (ValueError, TypeError, OverflowError):
            shown = cell.decode(errors="replace") if isinstance(cell, bytes) else cell
            problem = (
                "no source_id"
                if shown is None or not str(shown).strip() or str(shown).lower() in ("nan", "<na>")
                else f"'{str(shown)[:40]}' is no source_id (a whole number is expected)"
            )
            raise InputError(f"{label}, row {first_row + i}: {problem}") from None
    return ids


def _to_id(cell: Any) -> int:
    if isinstance(cell, bytes | str):
        text = cell.decode("ascii", "replace") if isinstance(cell, bytes) else cell
        text = _DESIGNATION.sub("", text.strip())
        digits = text[1:] if text[:1] in ("-", "+") else text
        if not (digits.isdigit() and digits.isascii()):
            raise ValueError
        return int(text)
    if isinstance(cell, bool | np.bool_) or not isinstance(cell, int | np.integer):
        raise TypeError
    return int(cell)


def _from_floats(data: NDArray[np.floating], label: str, first_row: int) -> NDArray[np.int64]:
    finite = np.isfinite(data)
    if not finite.all():
        raise InputError(f"{label}, row {first_row + int(np.argmin(finite))}: no source_id")
    exact = float(2 ** (np.finfo(data.dtype).nmant + 1))
    if len(data) and (np.abs(data) > exact).any():
        raise InputError(
            f"{label}: source_id is stored as {data.dtype}, which has lost its last digits; store"
            " it as int64 or text (pandas: dtype={'source_id': 'int64'} when reading)"
        )
    ids = data.astype(np.int64)
    if (ids != data).any():
        row = int(np.argmax(ids != data))
        raise InputError(f"{label}, row {first_row + row}: {data[row]} is no source_id")
    return ids


def find_factor(unit: Any, name: str, label: str) -> float:
    """Return what a number in a unit (None: degrees) is to be multiplied with to be degrees."""
    words = "" if unit is None else str(unit).strip()
    if words.lower() in _DEGREES:
        return 1.0
    if words.lower() in _HOURS:
        return 15.0
    from astropy import units

    for text in (words, words.lower()):
        try:
            return float(units.Unit(text).to("deg"))
        except (ValueError, TypeError):
            continue
    raise InputError(f"{label}: column '{name}' has unit {words}, no angle: degrees are needed")


def find_placed(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows (n,) have a position on the sky, in degrees."""
    return np.asarray(np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90))


def to_unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions in degrees as vectors (n, 3)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.column_stack((np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))


def to_degrees(column: Any, unit: Any, name: str, label: str) -> NDArray[np.float64]:
    """Return a column (n,), of numbers or of text, as degrees, NaN where it is masked or blank."""
    factor = find_factor(unit, name, label)
    values = from_arrow(getattr(column, "value", column))
    if not isinstance(values, list):
        array = np.ma.asarray(values)
        if array.dtype.kind in "fiu":
            return np.asarray(np.ma.filled(array.astype(np.float64), np.nan)) * factor
        hidden = np.ma.getmaskarray(array).tolist()
        cells = np.ma.getdata(array).tolist()
        values = [None if h else cell for cell, h in zip(cells, hidden, strict=True)]
    if any(isinstance(cell, bool) for cell in values):
        raise InputError(f"{label}: column '{name}' must hold degrees as numbers")
    texts = [c if isinstance(c, str | bytes | None) else str(c) for c in values]
    numbers, damaged = parse_number_cells(texts)
    if damaged.any():
        shown = texts[int(np.argmax(damaged))]
        word = shown.decode("utf-8", "replace") if isinstance(shown, bytes) else str(shown)
        raise InputError(
            f"{label}: column '{name}' must hold degrees as numbers, not '{word[:40]}'"
        )
    return numbers * factor


def fold_masks(columns: dict[str, Any], masks: Mapping[str, str]) -> dict[str, Any]:
    """Mask what the columns of masks beside the others say; these then are gone.

    ``masks`` has the name of a column and that of its mask.
    """
    if not masks:
        return columns
    folded = {name: column for name, column in columns.items() if name not in masks.values()}
    for name, mask in masks.items():
        hidden = _to_booleans(columns[mask], mask)
        if hidden.any():
            folded[name] = hide(folded[name], hidden)
    return folded


def _to_booleans(column: Any, name: str) -> NDArray[np.bool_]:
    if type(column).__module__.startswith("pyarrow"):
        column = column.to_numpy(zero_copy_only=False)
    if isinstance(column, list):
        words = [(cell or b"").strip().lower() for cell in column]
        if not set(words) <= {b"true", b"false"}:
            raise InputError(f"column '{name}' is no mask of true and false")
        return np.array([word == b"true" for word in words], dtype=bool)
    values = np.ma.filled(np.ma.asarray(column), False)
    if values.dtype.kind == "O" and len(values):  # a mask for each row's array
        values = np.array([bool(np.all(cell)) for cell in values])
    if values.dtype.kind == "S":  # FITS text
        values = np.char.strip(values) == b"T"
    return values.astype(bool)


def hide(column: Any, hidden: NDArray[np.bool_]) -> Any:
    """Return a column without the rows (or numbers of arrays) that are hidden."""
    rows = np.atleast_1d(hidden.reshape(len(hidden), -1).all(axis=1))
    if isinstance(column, Ragged):
        kept = np.repeat(~rows, column.lengths)
        lengths = np.where(rows, 0, column.lengths)
        return Ragged(column.values[kept], lengths, column.damaged & ~rows, column.text)
    if isinstance(column, list):
        return [None if h else cell for cell, h in zip(column, rows, strict=True)]
    if type(column).__module__.startswith("pyarrow"):
        import pyarrow as pa
        import pyarrow.compute as pc

        if hasattr(column, "combine_chunks"):
            column = column.combine_chunks()
        return pc.if_else(pa.array(~rows), column, pa.scalar(None, column.type))
    values = np.ma.asarray(column)
    shape = hidden if hidden.shape == values.shape else rows
    if shape.ndim < values.ndim:
        shape = np.broadcast_to(shape.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    return np.ma.MaskedArray(values.data, mask=np.ma.getmaskarray(values) | shape)


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
        info = block.get_info(actual)
        try:
            column, as_written = to_scalars(block.columns[actual], name, info.dtype)
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
        unit, description, ucd = info.unit or None, info.description or None, info.ucd or None
        meta = {AS_WRITTEN: True} if as_written else {}
        about = Column(name, column.dtype, unit, description, ucd, meta=meta)
        table[name] = make_column(about, column)
    return table if table.colnames else None


def to_scalars(column: Any, name: str, dtype: str | None = None) -> tuple[Any, bool]:
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
