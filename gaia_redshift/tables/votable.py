"""VOTable 1.4 with BINARY2 data, as the archive's DataLink sends it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._files import escape_controls, open_target
from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import (
    META_KEY,
    Arrays,
    Block,
    Column,
    describe_table,
    escape_texts,
    name_unit,
    refuse_large,
)
from gaia_redshift.tables.types import Note, choose_storage, measure_text

__all__ = ["TYPES", "Base64Lines", "VOTableSink", "make_field", "make_info"]

TYPES = {
    "b1": "boolean",
    "u1": "unsignedByte",
    "i2": "short",
    "i4": "int",
    "i8": "long",
    "f4": "float",
    "f8": "double",
}
_ESCAPE = 4
"""Letters at most that stand for a byte of text that XML cannot hold."""
_LINE = 57  # bytes that make a line of 76 characters in base64


class Base64Lines:
    """Bytes as they come become lines of base64; the rest of a line waits for more."""

    def __init__(self) -> None:
        self.rest = b""

    def encode(self, data: bytes = b"", *, last: bool = False) -> bytes:
        """Return the lines that are whole, or all."""
        data = self.rest + data
        end = len(data) if last else len(data) // _LINE * _LINE
        self.rest = data[end:]
        return base64.encodebytes(data[:end])


class VOTableSink:
    """Write blocks as BINARY2 rows: bits for nulls, then each field in network byte order."""

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column],
        meta: Mapping[str, Any] | None = None,
        *,
        packed: bool = False,
    ) -> None:
        for column in columns:
            if column.shape and column.dtype.kind == "U":
                raise InputError(f"column '{column.name}' holds arrays of text: leave it out")
        self.columns = columns
        # What all of a column holds may not be known: then as if it could be anything.
        anything = {"shape": [], "masked": True, "high": 0}
        self.stored = [
            choose_storage(c.note or {"dtype": c.dtype.str, **anything}, "votable") for c in columns
        ]
        self.widths = [
            _bound_text(column.note) if stored.kind == "U" else 0
            for column, (stored, _) in zip(columns, self.stored, strict=True)
        ]
        self.lines = Base64Lines()
        header = self._make_header(meta)
        self.file = open_target(path, packed)
        self.file.write(header.encode())

    def _make_header(self, meta: Mapping[str, Any] | None) -> str:
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
            '<RESOURCE type="results">',
        ]
        if meta is not None:
            noted = {**meta, META_KEY: describe_table(self.columns, meta)}
            lines += [make_info(key, value) for key, value in noted.items()]
        lines.append("<TABLE>")
        if meta is not None:
            words = "Redshifts from Gaia BP/RP spectra, made with gaia_redshift"
            lines.append(f"<DESCRIPTION>{words}</DESCRIPTION>")
        for column, (stored, null), width in zip(
            self.columns, self.stored, self.widths, strict=True
        ):
            if stored.kind == "U":
                lines.append(make_field(column, "unicodeChar", str(width or "*")))
                continue
            size = "*" if column.ragged else "x".join(map(str, column.shape[::-1]))
            single = not column.shape  # of which bits say that they are null
            kind = TYPES[stored.str[1:]]
            lines.append(make_field(column, kind, size, None if single else null))
        lines.append("<DATA>\n<BINARY2>\n<STREAM encoding='base64'>\n")
        return "\n".join(lines)

    def write(self, block: Block) -> None:
        """Append rows."""
        fields, hidden = [], []
        for column, (stored, null), width in zip(
            self.columns, self.stored, self.widths, strict=True
        ):
            values = block[column.name]
            if isinstance(values, Arrays):
                hidden.append(values.lengths == 0)
                fields.append(_encode_arrays(values))
                continue
            refuse_large(column, values)
            mask = np.ma.getmaskarray(values)
            hidden.append(mask.all(axis=tuple(range(1, mask.ndim))))
            if stored.kind == "U":
                fields.append(_encode_texts(np.ma.getdata(values), mask, width))
                continue
            fields.append(_encode_numbers(np.ma.getdata(values), mask, stored, null))
        bits = np.packbits(np.stack(hidden, axis=1), axis=1)
        rows = (
            b"".join((mask.tobytes(), *cells))
            for mask, cells in zip(bits, zip(*fields, strict=True), strict=True)
        )
        self.file.write(self.lines.encode(b"".join(rows)))

    def close(self) -> None:
        """Complete the file."""
        self.file.write(self.lines.encode(last=True))
        self.file.write(b"</STREAM>\n</BINARY2>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n")
        self.file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self.file.close()


def _bound_text(note: Note) -> int | None:
    """Return how many letters a column's text has at most; None if that is not known.

    astropy cannot convert text of no stated length to other formats.
    """
    if not note:
        return None
    return measure_text(note) * (_ESCAPE if note.get("escaped", True) else 1)


def make_info(key: str, value: Any, prefix: str = "") -> str:
    """Return provenance as an element; ``prefix`` is that of the document's names."""
    from xml.sax.saxutils import quoteattr  # with urllib and ssl: not at every start

    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    name, text = (quoteattr(escape_controls(str(t))) for t in (key, text))
    return f"<{prefix}INFO name={name} value={text}/>"


def make_field(
    column: Column, kind: str, size: str = "", null: int | None = None, prefix: str = ""
) -> str:
    """Return a column as an element; ``prefix`` is that of the document's names."""
    from xml.sax.saxutils import escape, quoteattr

    words = {
        "name": escape_controls(column.name),
        "datatype": kind,
        "arraysize": size or None,
        "unit": name_unit(column.unit, "vounit", column.unit),
        "ucd": column.ucd,
    }
    attributes = "".join(
        f" {key}={quoteattr(value)}" for key, value in words.items() if value is not None
    )
    text = escape(escape_controls(column.description or ""))
    inside = f"<{prefix}DESCRIPTION>{text}</{prefix}DESCRIPTION>"
    if null is not None:
        inside += f'<{prefix}VALUES null="{null}"/>'
    return f"<{prefix}FIELD{attributes}>{inside}</{prefix}FIELD>"


def _encode_arrays(values: Arrays) -> list[bytes]:
    swapped = values.padded.astype(values.padded.dtype.newbyteorder(">"))
    counts = _cut(values.lengths.astype(">i4"), 4)
    return [
        count + row[:length].tobytes()
        for count, row, length in zip(counts, swapped, values.lengths, strict=True)
    ]


def _encode_texts(data: Any, mask: Any, width: int | None) -> list[bytes]:
    """Return each row's text, filled up to a width or with its length before it."""
    cells = escape_texts(np.where(mask, "", data.astype(str))).tolist()
    texts = [cell.encode("utf-16-be", "surrogatepass") for cell in cells]
    if width is None:
        return [(len(text) // 2).to_bytes(4, "big") + text for text in texts]
    assert max(map(len, texts), default=0) <= 2 * width
    return [text.ljust(2 * width, b"\0") for text in texts]


def _encode_numbers(data: Any, mask: Any, stored: np.dtype[Any], null: int | None) -> list[bytes]:
    """Return each row's bytes."""
    if stored.kind == "b":
        filled = np.where(mask, ord("?"), np.where(data, ord("T"), ord("F"))).astype("u1")
    elif stored.kind == "f":
        filled = np.where(mask, np.nan, data).astype(stored.newbyteorder(">"))
    else:
        filled = np.where(mask, null or 0, data.astype(stored)).astype(stored.newbyteorder(">"))
    return _cut(filled, filled.itemsize * math.prod(filled.shape[1:]))


def _cut(array: Any, size: int) -> list[bytes]:
    """Return each row's bytes (taking a number from the array would put it in native order)."""
    data = array.tobytes()
    return [data[i * size : (i + 1) * size] for i in range(len(array))]
