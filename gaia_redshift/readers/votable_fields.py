"""Fields of VOTables, and how many bytes their cells take in BINARY and BINARY2 streams."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gaia_redshift.errors import InputError

__all__ = ["NUMBERS", "SIZES", "Field", "count_rows"]

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
