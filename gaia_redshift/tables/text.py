"""csv and ECSV; arrays in the archive's form, those of one length as astropy writes them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gaia_redshift._files import LEVEL, gzip
from gaia_redshift.errors import InputError
from gaia_redshift.tables.arrow import make_text
from gaia_redshift.tables.columns import Arrays, Block, Column, escape_texts, make_table
from gaia_redshift.tables.parquet import to_arrow

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


class TextSink:
    """Write blocks as lines of text.

    Spectra, which have no ``meta``, are as the archive writes them: with commas, text in quotes.
    Tables are as astropy writes them: with blanks in ECSV, and quotes where there must be.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column],
        meta: Mapping[str, Any] | None = None,
        *,
        ecsv: bool,
        packed: bool = False,
    ) -> None:
        self.columns, self.ecsv, self.spectra = columns, ecsv, meta is None
        for column in columns:
            if column.shape and not ecsv:
                raise InputError(
                    f"column '{column.name}' holds arrays; use ECSV, FITS, VOTable or Parquet for"
                    " it"
                )
        self.delimiter = " " if ecsv and not self.spectra else ","
        self.file = open_output(path, packed)
        names = self._quote([column.name for column in columns])
        header = self._make_header(meta) if ecsv else ""
        self.file.write(f"{header}{self.delimiter.join(names)}\n".encode())

    def _make_header(self, meta: Mapping[str, Any] | None) -> str:
        from astropy.table.meta import get_yaml_from_header

        table = make_table(self.columns, meta or {})
        header: dict[str, Any] = {"cols": list(table.columns.values()), "schema": "astropy-2.0"}
        if meta:
            header["meta"] = OrderedDict(meta)
        if self.delimiter != " ":
            header["delimiter"] = self.delimiter
        lines = ["%ECSV 1.0", "---", *get_yaml_from_header(header)]
        return "".join(f"# {line}\n" for line in lines)

    def write(self, block: Block) -> None:
        """Append rows."""
        import pyarrow.compute as pc

        cells = [self._to_text(block[c.name]) for c in self.columns]
        columns = [make_text(c) if isinstance(c, list) else c.cast("large_string") for c in cells]
        delimiter, newline, nothing = make_text([self.delimiter, "\n", ""])
        lines = pc.binary_join_element_wise(*columns, delimiter)
        lines = pc.binary_join_element_wise(lines, newline, nothing)
        n_bytes = pc.sum(pc.binary_length(lines)).as_py() or 0
        self.file.write(memoryview(lines.buffers()[2] or b"")[:n_bytes])

    def _to_text(self, values: Any) -> Any:
        """Return cells; numbers have the fewest digits that give them back in their precision."""
        blank = '""' if self.ecsv else ""
        if isinstance(values, Arrays):
            return self._join_arrays(values)
        mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
        if data.dtype.kind == "U":
            data = escape_texts(data)
        if data.ndim > 1:
            rows = np.ma.MaskedArray(data, mask=mask).tolist() if mask.any() else data.tolist()
            return self._quote([json.dumps(row, separators=(",", ":")) for row in rows])
        if data.dtype.kind == "f" and not (self.ecsv or self.spectra):
            data = data.astype(np.float64)  # nothing says that they are short
        cells: list[str] = data.astype(str).tolist()
        if data.dtype.kind == "U":
            cells = self._quote(cells, always=self.spectra)
        if mask.any():
            cells = [blank if hidden else c for c, hidden in zip(cells, mask, strict=True)]
        return cells

    def _join_arrays(self, values: Arrays) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = to_arrow(values)
        numbers = column.values.cast(pa.string())
        opening, between, closing = ('"[', ",", ']"') if self.ecsv else ('"(', ", ", ')"')
        if self.ecsv and not np.isfinite(values.flat).all():  # JSON's words
            numbers = pc.replace_substring(numbers, "nan", "NaN")
            numbers = pc.replace_substring(numbers, "inf", "Infinity")
        lists = pa.ListArray.from_arrays(column.offsets, numbers)
        text = pc.binary_join_element_wise(opening, pc.binary_join(lists, between), closing, "")
        return pc.if_else(column.is_valid(), text, "")

    def _quote(self, cells: Sequence[str], *, always: bool = False) -> list[str]:
        special = {self.delimiter, '"', "\n", "\r"}
        return [
            '"' + cell.replace('"', '""') + '"'
            if always or not special.isdisjoint(cell) or (self.ecsv and not cell)
            else cell
            for cell in cells
        ]

    def close(self) -> None:
        """Complete the file."""
        self.file.close()

    abort = close
