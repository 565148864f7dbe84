"""VOTable 1.4 with BINARY2 data, as the archive's DataLink sends it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.formats import escape_texts
from gaia_redshift.writers.records import Arrays, OutputColumn, check_block, narrow, take_narrow
from gaia_redshift.writers.text import open_output

__all__ = ["VOTableSink"]

_TYPES = {
    "bool": "boolean",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "float32": "float",
    "float64": "double",
}
_LINE = 57  # bytes that make a line of 76 characters in base64


class VOTableSink:
    """Write blocks as BINARY2 rows: bits for nulls, then each field in network byte order."""

    def __init__(self, path: Path, columns: list[OutputColumn], *, packed: bool) -> None:
        self.columns = columns
        self.rest = b""
        self.file = open_output(path, packed)
        self.file.write(_make_header(columns).encode())

    def write(self, spectra: XPSpectra) -> None:
        """Append a block."""
        check_block(spectra, self.columns)
        fields = []
        nulls = np.zeros((len(spectra), len(self.columns)), dtype=bool)
        for i, column in enumerate(self.columns):
            values = take_narrow(spectra, column)
            if isinstance(values, Arrays):
                nulls[:, i] = values.lengths == 0
            else:
                nulls[:, i] = np.ma.getmaskarray(values)
            fields.append(_encode_cells(values))
        bits = np.packbits(nulls, axis=1)
        rows = (
            b"".join((mask.tobytes(), *cells))
            for mask, cells in zip(bits, zip(*fields, strict=True), strict=True)
        )
        self._encode(b"".join(rows))

    def _encode(self, data: bytes, last: bool = False) -> None:
        data = self.rest + data
        end = len(data) if last else len(data) // _LINE * _LINE
        self.file.write(base64.encodebytes(data[:end]))
        self.rest = data[end:]

    def close(self) -> None:
        """Complete the file."""
        self._encode(b"", last=True)
        self.file.write(b"</STREAM>\n</BINARY2>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n")
        self.file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self.file.close()


def _encode_cells(values: Arrays | np.ma.MaskedArray[Any, Any]) -> list[bytes]:
    if isinstance(values, Arrays):
        swapped = values.padded.astype(values.padded.dtype.newbyteorder(">"))
        counts = _cut(values.lengths.astype(">i4"))
        return [
            count + row[:length].tobytes()
            for count, row, length in zip(counts, swapped, values.lengths, strict=True)
        ]
    mask = np.ma.getmaskarray(values)
    if values.dtype.kind == "U":
        texts = [
            b"" if hidden else text.encode("utf-16-be")
            for text, hidden in zip(escape_texts(values.data).tolist(), mask, strict=True)
        ]
        return [(len(text) // 2).to_bytes(4, "big") + text for text in texts]
    if values.dtype.kind == "b":
        return [
            b"?" if hidden else (b"T" if value else b"F")
            for value, hidden in zip(values.data, mask, strict=True)
        ]
    return _cut(values.filled(0).astype(values.dtype.newbyteorder(">")))


def _cut(array: np.ndarray[Any, Any]) -> list[bytes]:
    """Return each number's bytes (taking one from the array would put it in native order)."""
    data, size = array.tobytes(), array.itemsize
    return [data[i : i + size] for i in range(0, len(data), size)]


def _make_header(columns: list[OutputColumn]) -> str:
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
        '<RESOURCE type="results">',
        "<TABLE>",
    ]
    for column in columns:
        text = column.dtype.kind == "U"
        kind = "unicodeChar" if text else _TYPES[narrow(column).name]
        attributes = f"name={quoteattr(column.name)} datatype={quoteattr(kind)}"
        if text or column.is_array:
            attributes += ' arraysize="*"'
        if column.unit:
            attributes += f" unit={quoteattr(column.unit)}"
        if column.ucd:
            attributes += f" ucd={quoteattr(column.ucd)}"
        description = escape(column.description or "")
        lines.append(f"<FIELD {attributes}><DESCRIPTION>{description}</DESCRIPTION></FIELD>")
    lines.append("<DATA>\n<BINARY2>\n<STREAM encoding='base64'>\n")
    return "\n".join(lines)
