"""csv and ecsv, in the archive's form: arrays in quotes."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from gaia_redshift._files import LEVEL, gzip
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.formats import escape_texts
from gaia_redshift.writers.records import Arrays, OutputColumn, check_block, take_values

__all__ = ["TextSink", "open_output"]


class _PackedFile(gzip.GzipFile):  # type: ignore[misc,name-defined]
    """A gzip file without a name or time in it (the same data give the same bytes)."""

    def __init__(self, path: Path) -> None:
        self._raw_file = path.open("wb")
        super().__init__("", "wb", LEVEL, self._raw_file, mtime=0)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._raw_file.close()


def open_output(path: Path, packed: bool) -> IO[bytes]:
    """Open a file for writing, through gzip if ``packed``."""
    return _PackedFile(path) if packed else path.open("wb")  # type: ignore[return-value]


def to_arrow(values: Arrays | np.ma.MaskedArray[Any, Any]) -> Any:
    """Return a column as a pyarrow array, null where masked or without an array."""
    import pyarrow as pa

    if isinstance(values, Arrays):
        offsets = np.concatenate([[0], np.cumsum(values.lengths)]).astype(np.int32)
        absent = pa.array(values.lengths == 0)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.flat), mask=absent)
    mask = np.ma.getmaskarray(values)
    if values.dtype.kind == "U":
        return pa.array(values.data.tolist(), type=pa.string(), mask=mask)
    return pa.array(values.data, mask=mask)


class TextSink:
    """Write blocks as lines of text."""

    def __init__(self, path: Path, columns: list[OutputColumn], *, ecsv: bool, packed: bool):
        self.columns = columns
        self.ecsv = ecsv
        self.file = open_output(path, packed)
        header = _make_ecsv_header(columns) if ecsv else ""
        self.file.write((header + ",".join(_quote(c.name) for c in columns) + "\n").encode())

    def write(self, spectra: XPSpectra) -> None:
        """Append a block."""
        import pyarrow as pa
        from pyarrow import csv

        check_block(spectra, self.columns)
        fields = [self._to_text(take_values(spectra, column)) for column in self.columns]
        table = pa.table(fields, names=[str(i) for i in range(len(fields))])
        sink = pa.BufferOutputStream()
        csv.write_csv(table, sink, csv.WriteOptions(include_header=False))
        self.file.write(memoryview(sink.getvalue()))

    def _to_text(self, values: Arrays | np.ma.MaskedArray[Any, Any]) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        if not isinstance(values, Arrays) and values.dtype.kind == "U":
            values = np.ma.MaskedArray(escape_texts(values.data), mask=np.ma.getmask(values))
        column = to_arrow(values)
        if not isinstance(values, Arrays):
            if values.dtype.kind == "b":  # ECSV knows True and False, not true and false
                return pc.if_else(column, "True", "False")
            return column
        numbers = column.values.cast(pa.string())
        opening, between, closing = ("[", ",", "]") if self.ecsv else ("(", ", ", ")")
        if self.ecsv and not np.isfinite(values.flat).all():  # JSON's words
            numbers = pc.replace_substring(numbers, "nan", "NaN")
            numbers = pc.replace_substring(numbers, "inf", "Infinity")
        lists = pa.ListArray.from_arrays(column.offsets, numbers)
        text = pc.binary_join_element_wise(opening, pc.binary_join(lists, between), closing, "")
        return pc.if_else(column.is_valid(), text, pa.scalar(None, pa.string()))

    def close(self) -> None:
        """Complete the file."""
        self.file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self.file.close()


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n') else name


_ECSV_TYPES = {"b": "bool", "U": "string"}


def _make_ecsv_header(columns: list[OutputColumn]) -> str:
    """Write the YAML header of ECSV 1.0, as https://github.com/astropy/astropy-APEs APE 6 says."""
    import json

    lines = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    for column in columns:
        kind = "string" if column.is_array else _ECSV_TYPES.get(column.dtype.kind)
        # JSON's strings are YAML's double-quoted ones.
        lines += ["-", f"  name: {json.dumps(column.name)}"]
        if column.unit:
            lines.append(f"  unit: {json.dumps(column.unit)}")
        lines.append(f"  datatype: {kind or column.dtype.name}")
        if column.is_array:
            lines.append(f"  subtype: '{column.dtype.name}[null]'")
        if column.description:
            lines.append(f"  description: {json.dumps(column.description)}")
        if column.ucd:
            lines += ["  meta:", f"    ucd: {json.dumps(column.ucd)}"]
    return "".join(f"# {line}\n" for line in lines)
