"""Columns of arrays, in whatever form a table holds them, as one flat array and row lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.tables.arrow import take_numbers

__all__ = [
    "Ragged",
    "parse_number_cells",
    "parse_text_arrays",
    "to_ragged",
]

_NULLS = ["", "null", "NULL", "nan", "NaN", "NAN", "None", "none", "--", "masked"]
_NULL_CELLS = frozenset(text.lower().encode() for text in _NULLS)
_OPENING = (b"(", b"[")
_CLOSING = (b")", b"]")


@dataclass
class Ragged:
    """Arrays of different lengths, one a row: all numbers one after the other, and lengths (n,).

    A length is 0 where a row has no array; rows that hold something else are ``damaged``. Of
    numbers written as ``text`` the precision is not known.
    """

    values: NDArray[np.floating]
    lengths: NDArray[np.int64]
    damaged: NDArray[np.bool_]
    text: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def empty(cls, n: int) -> Ragged:
        """Return n rows without an array."""
        return cls(np.empty(0), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool))

    @classmethod
    def from_matrix(cls, matrix: NDArray[Any]) -> Ragged:
        """Take each row of a 2-D array."""
        n, width = matrix.shape
        return cls(matrix.reshape(-1), np.full(n, width), np.zeros(n, dtype=bool))

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """Join the rows of several."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([p.values for p in parts]),
            np.concatenate([p.lengths for p in parts]),
            np.concatenate([p.damaged for p in parts]),
            any(p.text for p in parts),
        )

    def to_padded(self, longest: int) -> NDArray[np.floating]:
        """Return a 2-D array, NaN beyond each row's length; rows longer than ``longest`` are cut.

        Such a row is damaged: it must not blow up everybody's array.
        """
        n = len(self)
        width = min(int(self.lengths.max(initial=0)), longest)
        if n and (self.lengths == width).all():
            return self.values.reshape(n, width)
        padded = np.full((n, width), np.nan, dtype=self.values.dtype)
        column = np.arange(width)
        if self.lengths.max(initial=0) <= width:
            padded[column < self.lengths[:, None]] = self.values
            return padded
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        for row in range(n):
            part = self.values[starts[row] : starts[row + 1]][:width]
            padded[row, : len(part)] = part
        return padded


def parse_numbers(text: bytes, expected: int) -> NDArray[np.float64] | None:
    """Parse one number a line, exactly as `float` would; None if that is not what the text holds.

    pyarrow's parser is correctly rounded and about 15 times as fast as a loop.
    """
    import pyarrow as pa
    from pyarrow import csv

    if not expected:
        return np.empty(0)
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(
                column_names=["v"], block_size=max(1 << 20, len(text) // 4), use_threads=False
            ),
            parse_options=csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={"v": pa.float64()}, null_values=_NULLS
            ),
        )
    except pa.ArrowInvalid:
        return None
    return _take_floats(table["v"]) if table.num_rows == expected else None


def _take_floats(column: Any) -> NDArray[Any]:
    """Return an arrow column of numbers, integers as float64; NaN where null."""
    values, null = take_numbers(column)
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    return np.where(null, values.dtype.type(np.nan), values) if null.any() else values


def parse_text_arrays(cells: Sequence[bytes | str | None]) -> Ragged:
    """Parse cells (n,) such as ``(1.5, -2E-3)`` or ``[1.5,null]``; blanks are rows without array.

    A row that cannot be understood is marked as damaged; it keeps the numbers up to there.
    """
    parse = _open_parser()
    parts: list[NDArray[np.float64]] = []
    damaged = np.zeros(len(cells), dtype=bool)
    for row, raw in enumerate(cells):
        cell = (raw.encode() if isinstance(raw, str) else raw or b"").strip()
        part = parse(cell)
        if part is None:
            part, damaged[row] = _parse_cell(cell)
        parts.append(part)
    lengths = np.array(list(map(len, parts)), dtype=np.int64)
    # Not by NumPy, which lets go of Python's lock for each of them.
    values = np.frombuffer(bytearray().join(parts))  # type: ignore[arg-type]
    return Ragged(values, lengths, damaged, text=True)


def _open_parser() -> Callable[[bytes], NDArray[np.float64] | None]:
    """Return what parses an array of nothing but numbers, exactly as `float`, or gives None."""
    try:
        from simdjson import Parser
    except ImportError:  # a machine for which it is not built
        return lambda cell: None
    parse: Callable[[bytes], Any] = Parser().parse

    def parse_cell(cell: bytes) -> NDArray[np.float64] | None:
        # The parser would take nested arrays for a flat one.
        if cell[:1] not in _OPENING or cell[-1:] not in _CLOSING or cell.find(b"[", 1) > 0:
            return None
        try:
            found = parse(b"".join((b"[", memoryview(cell)[1:-1], b"]")))
            return np.frombuffer(found.as_buffer(of_type="d"))
        except (ValueError, TypeError, RuntimeError):  # blanks, null, no number
            return None

    return parse_cell


def _parse_cell(cell: bytes) -> tuple[NDArray[np.float64], bool]:
    """Parse any cell: (numbers up to the first that is none, whether there was one)."""
    if cell.lower() in _NULL_CELLS:
        return np.empty(0), False
    body = cell[1:] if cell[:1] in _OPENING else cell
    closed = cell[:1] in _OPENING and body[-1:] in _CLOSING
    body = body[:-1] if closed else body
    if b"," in body:
        quick = parse_numbers(body.replace(b",", b"\n") + b"\n", body.count(b",") + 1)
        if quick is not None:
            return quick, not closed
    numbers: list[float] = []
    for word in body.split(b",") if b"," in body else body.split():
        text = word.strip()
        if text.lower() in _NULL_CELLS:
            numbers.append(np.nan)
            continue
        try:
            numbers.append(float(text))
        except ValueError:
            return np.array(numbers), True
    return np.array(numbers), not closed


def parse_number_cells(
    cells: Sequence[bytes | str | None],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Parse cells (n,) of one number each, NaN where it is blank; and tell which are damaged."""
    damaged = np.zeros(len(cells), dtype=bool)
    try:
        return np.fromiter(map(float, cells), np.float64, len(cells)), damaged  # type: ignore[arg-type]
    except (ValueError, TypeError):  # blanks, words, None
        values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        text = cell.encode() if isinstance(cell, str) else cell or b""
        try:
            values[row] = float(text)
        except ValueError:
            damaged[row] = text.strip().lower() not in _NULL_CELLS
    return values, damaged


def to_ragged(column: Any) -> Ragged:  # noqa: PLR0911 (one per kind)
    """Turn a column of arrays into flat values and lengths; masked and absent values are NaN.

    It holds numbers (n, k), matrices (n, k, k), or an array, a string or nothing in each row.
    Symmetric matrices become their column-ordered upper triangle without the diagonal, the
    archive's form of correlations.
    """
    if isinstance(column, Ragged):
        return column
    if hasattr(column, "num_chunks"):
        chunks = [_from_arrow(chunk) for chunk in column.chunks]
        return Ragged.concatenate(chunks) if chunks else Ragged.empty(0)
    if type(column).__module__.startswith("pyarrow"):
        return _from_arrow(column)
    if isinstance(column, list | tuple):
        return _from_objects(column, None)
    array = np.ma.asanyarray(column) if isinstance(column, np.ma.MaskedArray) else column
    array = np.asanyarray(array)
    if array.dtype.kind in "OSU" and array.ndim == 1:
        mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
        return _from_objects(np.ma.getdata(array).tolist(), mask)
    try:
        numbers = _fill(array)
    except (TypeError, ValueError):
        return _from_objects(list(np.ma.getdata(array)), None)
    if numbers.ndim == 1:  # a column of NaN for "none of the rows has it", or arrays of length 1
        numbers = numbers[:, None]
    if numbers.ndim == 3 and numbers.shape[1] == numbers.shape[2]:
        numbers = numbers[(slice(None), *np.tril_indices(numbers.shape[1], -1))]
    if numbers.ndim != 2:
        flat = Ragged.empty(len(numbers))
        flat.damaged[:] = True
        return flat
    return Ragged.from_matrix(numbers)


def _fill(array: Any) -> NDArray[np.floating]:
    """Return float32 or float64 in native byte order, NaN where masked."""
    data = np.ma.getdata(array)
    kind = np.float32 if data.dtype.kind == "f" and data.dtype.itemsize <= 4 else np.float64
    numbers: NDArray[np.floating] = np.asarray(data).astype(kind)
    if isinstance(array, np.ma.MaskedArray) and array.mask is not np.ma.nomask:
        numbers[np.ma.getmaskarray(array)] = np.nan
    return numbers


def _from_objects(cells: Sequence[Any], mask: NDArray[np.bool_] | None) -> Ragged:
    n = len(cells)
    if mask is not None and mask.ndim == 1 and mask.any():
        cells = [None if hidden else cell for cell, hidden in zip(cells, mask, strict=True)]
    if set(map(type, cells)) <= {bytes, str, type(None)}:
        return parse_text_arrays(cells)
    parts: list[NDArray[np.floating]] = []
    damaged = np.zeros(n, dtype=bool)
    for row, cell in enumerate(cells):
        if isinstance(cell, str | bytes):
            one = parse_text_arrays([cell])
            parts.append(one.values)
            damaged[row] = one.damaged[0]
            continue
        try:
            part = _from_object(cell)
        except (TypeError, ValueError):
            part = None
        damaged[row] = part is None
        parts.append(np.empty(0) if part is None else part)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    # An empty float64 placeholder must not turn float32 arrays into float64.
    filled = [part for part in parts if len(part)]
    return Ragged(np.concatenate(filled) if filled else np.empty(0), lengths, damaged)


def _from_object(cell: Any) -> NDArray[np.floating] | None:
    """Return a row's array, empty for "none", None for something that is no array."""
    if cell is None or cell is np.ma.masked:
        return np.empty(0)
    if isinstance(cell, np.ma.MaskedArray):
        part = _fill(cell)
    elif isinstance(cell, np.ndarray) and cell.dtype.kind == "f":
        part = cell.astype(cell.dtype.newbyteorder("="), copy=False)
    elif type(cell).__name__ == "NAType":
        return np.empty(0)
    else:
        part = _fill(np.asarray(cell, dtype=np.float64))
    if part.ndim == 0:
        return np.empty(0) if np.isnan(part) else part[None]
    if part.ndim == 2 and part.shape[0] == part.shape[1]:
        return part[np.tril_indices(len(part), -1)]
    return part if part.ndim == 1 else None


def _from_arrow(array: Any) -> Ragged:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_null(kind):
        return Ragged.empty(len(array))
    if pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(kind.value_type))
        kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            return _from_objects(array.to_pylist(), None)
        lengths = take_numbers(pc.list_value_length(array))[0]
        flat = _take_floats(array.flatten())  # leaves out what lies under null rows
        return Ragged(flat, lengths.astype(np.int64), np.zeros(len(array), dtype=bool))
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return to_ragged(_take_floats(array).astype(np.float64))
    return _from_objects(array.to_pylist(), None)
