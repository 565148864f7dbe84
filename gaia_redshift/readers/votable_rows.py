"""Fields of VOTables, and rows of such of spectra without astropy: numbers and arrays of these."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import Ragged, parse_text_arrays

__all__ = [
    "NUMBERS",
    "SIZES",
    "Field",
    "UnusualError",
    "count_rows",
    "iter_binary_columns",
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

    def measure(self, count: int) -> int:
        """Return the bytes of so many items."""
        return -(-count // 8) if self.datatype == "bit" else count * SIZES[self.datatype]


def count_rows(fields: Sequence[Field], data: bytes, label: str, *, flagged: bool) -> int:
    """Count the rows of a stream, which must not end in the middle of one.

    ``flagged`` (BINARY2): each row begins with bits that tell its null cells.
    """
    for field in fields:
        if field.datatype not in SIZES and field.datatype != "bit":
            raise InputError(
                f"{label}: column '{field.name}' is of unknown type '{field.datatype}'"
            )
    n_flags = -(-len(fields) // 8) if flagged else 0
    sizes = [field.size for field in fields]
    width = n_flags + sum(size or 0 for size in sizes)
    cut = InputError(f"{label}: its stream of rows ends in the middle of one (file damaged?)")
    if None not in sizes:
        if width and len(data) % width:
            raise cut
        return len(data) // width if width else 0
    at = n = 0
    pairs = list(zip(fields, sizes, strict=True))
    while at < len(data):
        at += n_flags
        for field, size in pairs:
            if size is None:
                count = int.from_bytes(data[at : at + 4], "big")
                at += 4 + field.measure(count)
            else:
                at += size
        if at > len(data):
            raise cut
        n += 1
    return n


class UnusualError(Exception):
    """What is left to astropy."""


def _choose_fields(fields: Sequence[Field], names: Sequence[str]) -> list[int]:
    """Return the columns' numbers; all of them must be numbers or arrays of floats."""
    by_name = {field.name: number for number, field in enumerate(fields)}
    chosen = [by_name[name] for name in names]
    for field in (fields[number] for number in chosen):
        kind = NUMBERS.get(field.datatype, "")
        floats = kind.startswith(">f")
        if not kind or not re.fullmatch(r"\d*\*?", field.arraysize) or len(by_name) < len(fields):
            raise UnusualError
        if (not floats and _is_array(field)) or (floats and field.null is not None):
            raise UnusualError
    return chosen


def _is_array(field: Field) -> bool:
    return field.arraysize not in ("", "1")


def iter_binary_columns(
    fields: Sequence[Field], data: bytes, names: Sequence[str], *, flagged: bool
) -> Iterator[dict[str, Any]]:
    """Yield the columns of some rows at a time of a stream that `count_rows` has gone through."""
    chosen = _choose_fields(fields, names)
    n_flags = -(-len(fields) // 8) if flagged else 0
    sizes = [(field.size, field) for field in fields]
    count_at = struct.Struct(">I").unpack_from
    at = 0
    while at < len(data):
        rows: list[int] = []
        places: list[list[int]] = []  # of each cell, and behind the last one
        counts: list[list[int]] = []
        while at < len(data) and len(rows) < BLOCK_ROWS:
            rows.append(at)
            at += n_flags
            here, items = [], []
            for size, field in sizes:
                count = -1
                if size is None:
                    count = count_at(data, at)[0]
                    at += 4
                here.append(at)
                items.append(count)
                at += field.measure(count) if size is None else size
            places.append(here)
            counts.append(items)
        starts, lengths = np.array(places), np.array(counts)
        flags = _read_flags(data, rows, n_flags) if flagged else np.zeros(starts.shape, dtype=bool)
        yield {
            fields[i].name: _take_binary(fields[i], data, starts[:, i], lengths[:, i], flags[:, i])
            for i in chosen
        }


def _read_flags(data: bytes, rows: Sequence[int], n_flags: int) -> NDArray[np.bool_]:
    """Return which cells are said to be null, shape (n, fields, rounded up to bytes)."""
    raw = b"".join([data[at : at + n_flags] for at in rows])
    bits = np.frombuffer(raw, np.uint8).reshape(-1, n_flags)
    return np.unpackbits(bits, axis=1).astype(bool)


def _take_binary(
    field: Field,
    data: bytes,
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    hidden: NDArray[np.bool_],
) -> Any:
    kind = np.dtype(NUMBERS[field.datatype])
    fixed = field.size
    if fixed is not None:
        counts = np.full(len(starts), fixed // kind.itemsize)
    if _is_array(field):
        counts = np.where(hidden, 0, counts)
    ends = starts + counts * kind.itemsize
    raw = b"".join([data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
    if _is_array(field):
        return Ragged(values, counts, np.zeros(len(starts), dtype=bool))
    return _hide(field, values, hidden)


def _hide(field: Field, values: NDArray[Any], hidden: NDArray[np.bool_]) -> Any:
    if values.dtype.kind == "f":
        values[hidden] = np.nan
        return values
    if field.null is not None:
        try:
            hidden = hidden | (values == int(field.null))
        except ValueError:
            raise UnusualError from None
    return np.ma.MaskedArray(values, mask=hidden) if hidden.any() else values


def iter_text_columns(
    fields: Sequence[Field], rows: Sequence[Sequence[str]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the columns of some rows of TABLEDATA at a time."""
    chosen = _choose_fields(fields, names)
    if any(len(row) != len(fields) for row in rows):
        raise UnusualError
    for start in range(0, len(rows), BLOCK_ROWS):
        some = rows[start : start + BLOCK_ROWS]
        yield {
            fields[i].name: _take_text(fields[i], [row[i].strip() for row in some]) for i in chosen
        }


def _take_text(field: Field, cells: list[str]) -> Any:
    kind = np.dtype(NUMBERS[field.datatype]).newbyteorder("=")
    if _is_array(field):
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
