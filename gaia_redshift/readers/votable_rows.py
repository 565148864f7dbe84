"""Fields of VOTables, and rows taken without astropy: numbers, arrays of these, and ASCII text."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged, parse_text_arrays

__all__ = [
    "NUMBERS",
    "BinaryLayout",
    "BinaryRows",
    "Field",
    "UnusualError",
    "choose_fields",
    "iter_text_columns",
]

BLOCK_ROWS = 2048
NUMBERS = {
    "unsignedByte": "u1",
    "short": ">i2",
    "int": ">i4",
    "long": ">i8",
    "float": ">f4",
    "double": ">f8",
}
"""NumPy's types of the numbers in a stream, by their data type."""
SIZES = {
    "boolean": 1,
    "unsignedByte": 1,
    "short": 2,
    "int": 4,
    "long": 8,
    "char": 1,
    "unicodeChar": 2,
    "float": 4,
    "double": 8,
    "floatComplex": 8,
    "doubleComplex": 16,
}


@dataclass
class Field:
    """A column of a VOTable."""

    name: str
    datatype: str
    arraysize: str = ""
    unit: str = ""
    null: str | None = None

    @classmethod
    def read(cls, attributes: Mapping[str, str]) -> Field:
        """Take a FIELD's attributes."""
        name = attributes.get("name") or attributes.get("ID") or ""
        return cls(
            name,
            attributes.get("datatype", ""),
            attributes.get("arraysize", "").strip(),
            attributes.get("unit", ""),
        )

    @property
    def size(self) -> int | None:
        """Bytes in a row; None if every row has its own number."""
        if "*" in self.arraysize:
            return None
        return self.measure(math.prod(int(part) for part in re.findall(r"\d+", self.arraysize)))

    @property
    def is_array(self) -> bool:
        """Whether a row has several items, or may."""
        return self.arraysize not in ("", "1")

    def measure(self, count: int) -> int:
        """Return the bytes of so many items."""
        if self.datatype != "bit":
            return count * SIZES[self.datatype]
        # Rows with their own number of bits have a byte for each, in the archive's files as in
        # astropy's, whatever the standard says.
        return count if "*" in self.arraysize else -(-count // 8)


class UnusualError(ValueError):
    """What is left to astropy."""


class BinaryLayout:
    """How the rows of a BINARY or BINARY2 stream lie in it.

    ``flagged`` (BINARY2): each row begins with bits that tell its null cells.
    """

    def __init__(self, fields: Sequence[Field], label: str, *, flagged: bool) -> None:
        for field in fields:
            if field.datatype not in SIZES and field.datatype != "bit":
                raise InputError(
                    f"{label}: column '{field.name}' is of unknown type '{field.datatype}'"
                )
        self.fields = fields
        self.n_flags = -(-len(fields) // 8) if flagged else 0

    def find(self, data: bytes | bytearray, at: int = 0, most: int = BLOCK_ROWS) -> BinaryRows:
        """Find the whole rows behind a place, so many at most."""
        sizes = [field.size for field in self.fields]
        if None not in sizes:
            ends = self.n_flags + np.cumsum(np.array(sizes, dtype=np.int64))
            width = int(ends[-1]) if sizes else 0
            n = min((len(data) - at) // width, most) if width else 0
            edges = at + width * np.arange(n + 1)
            stops = edges[:-1, None] + ends
            return BinaryRows(self, data, edges, stops - np.array(sizes), stops)
        pairs = list(zip(sizes, self.fields, strict=True))
        count_at = struct.Struct(">I").unpack_from
        found = [at]
        cells: list[list[tuple[int, int]]] = []
        while at < len(data) and len(cells) < most:
            at += self.n_flags
            row = []
            try:
                for size, field in pairs:
                    n_bytes = size
                    if n_bytes is None:
                        n_bytes = field.measure(count_at(data, at)[0])
                        at += 4
                    row.append((at, at + n_bytes))
                    at += n_bytes
            except struct.error:  # the data end in a count
                break
            if at > len(data):
                break
            found.append(at)
            cells.append(row)
        places = np.array(cells, dtype=np.int64).reshape(len(cells), len(pairs), 2)
        return BinaryRows(self, data, np.array(found), places[..., 0], places[..., 1])


@dataclass(frozen=True)
class BinaryRows:
    """Rows of a stream: ``edges`` (n + 1,) in bytes, and where their cells (n, fields) lie."""

    layout: BinaryLayout
    data: bytes | bytearray
    edges: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def cut(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[bytes]:
        """Return pieces of the stream."""
        return [bytes(self.data[a:b]) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]

    @cached_property
    def null(self) -> NDArray[np.bool_]:
        """Which cells are said to be null, shape (n, fields)."""
        if not self.layout.n_flags:
            return np.zeros(self.starts.shape, dtype=bool)
        begins = self.edges[:-1]
        raw = b"".join(self.cut(begins, begins + self.layout.n_flags))
        bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(len(self), -1), axis=1)
        return bits[:, : len(self.layout.fields)].astype(bool)

    def take(self, number: int) -> Any:
        """Return a column of numbers, or of arrays of them."""
        field, hidden = self.layout.fields[number], self.null[:, number]
        kind = np.dtype(NUMBERS[field.datatype])
        starts, stops = self.starts[:, number], self.stops[:, number]
        if field.is_array:
            stops = np.where(hidden, starts, stops)
        raw = b"".join(self.cut(starts, stops))
        values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
        if field.is_array:
            lengths = (stops - starts) // kind.itemsize
            return Ragged(values, lengths, np.zeros(len(self), dtype=bool))
        return _hide(field, values, hidden)

    def take_texts(self, number: int) -> list[str]:
        """Return a column of ASCII text, empty where there is none."""
        null = self.layout.fields[number].null
        cells = self.cut(self.starts[:, number], self.stops[:, number])
        texts = [cell.decode("ascii", "replace").strip("\0 ") for cell in cells]
        hidden = self.null[:, number]
        return ["" if h or t == null else t for t, h in zip(texts, hidden, strict=True)]


def choose_fields(fields: Sequence[Field], names: Sequence[str]) -> list[int]:
    """Return the columns' numbers; all of them must be numbers or arrays of floats."""
    by_name = {field.name: number for number, field in enumerate(fields)}
    chosen = [by_name[name] for name in names]
    for field in (fields[number] for number in chosen):
        kind = NUMBERS.get(field.datatype, "")
        floats = kind.startswith(">f")
        if not kind or not re.fullmatch(r"\d*\*?", field.arraysize) or len(by_name) < len(fields):
            raise UnusualError
        if (not floats and field.is_array) or (floats and field.null is not None):
            raise UnusualError
    return chosen


def _hide(field: Field, values: NDArray[Any], hidden: NDArray[np.bool_]) -> Any:
    if values.dtype.kind == "f":
        values[hidden] = np.nan
        return values
    if field.null is not None:
        try:
            hidden = hidden | (values == int(field.null))
        except ValueError:
            raise UnusualError(f"column '{field.name}' has no number as its null") from None
    return np.ma.MaskedArray(values, mask=hidden) if hidden.any() else values


def iter_text_columns(
    fields: Sequence[Field], rows: Sequence[Sequence[str]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the columns of some rows of TABLEDATA at a time."""
    chosen = choose_fields(fields, names)
    if any(len(row) != len(fields) for row in rows):
        raise UnusualError
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        yield {
            fields[i].name: _take_text(fields[i], [row[i].strip() for row in some]) for i in chosen
        }


def _take_text(field: Field, cells: list[str]) -> Any:
    kind = np.dtype(NUMBERS[field.datatype]).newbyteorder("=")
    if field.is_array:
        found = parse_text_arrays([_to_list(cell) for cell in cells])
        stated = field.arraysize
        wrong = stated.isdigit() and (found.lengths != int(stated)).any()
        if found.damaged.any() or wrong:
            raise UnusualError
        return Ragged(found.values.astype(kind), found.lengths, found.damaged)
    hidden = np.array([not cell for cell in cells], dtype=bool)
    try:
        if kind.kind == "f":
            return np.array([float(cell) if cell else np.nan for cell in cells]).astype(kind)
        values = np.array([int(cell) if cell else 0 for cell in cells], dtype=kind)
    except (ValueError, OverflowError):
        raise UnusualError from None
    return _hide(field, values, hidden)


def _to_list(cell: str) -> str:
    """Return numbers with blanks between them as an array is written in csv."""
    if "," in cell:  # no VOTable has them between numbers, but astropy reads them
        raise UnusualError
    return f"[{','.join(cell.split())}]"
