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

    ECSV has blanks between cells, as astropy writes it, and commas where arrays of any length are,
    as in the archive's files.
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
        self.columns, self.ecsv = columns, ecsv
        # Nothing says that numbers of a csv file are short: they get the digits of long ones.
        self.exact = not ecsv and meta is not None
        for column in columns:
            if column.shape and not ecsv:
                raise InputError(
                    f"column '{column.name}' holds arrays; use ECSV, FITS, VOTable or Parquet for"
                    " it"
                )
        self.delimiter = "," if not ecsv or any(c.ragged for c in columns) else " "
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
        cells = [self._to_text(block[column.name]) for column in self.columns]
        lines = map(self.delimiter.join, zip(*cells, strict=True))
        text = "".join(f"{line}\n" for line in lines)
        self.file.write(text.encode("utf-8", "surrogatepass"))

    def _to_text(self, values: Any) -> list[str]:
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
        if self.exact and data.dtype.kind == "f":
            data = data.astype(np.float64)
        cells: list[str] = data.astype(str).tolist()
        if data.dtype.kind == "U":
            cells = self._quote(cells)
        if mask.any():
            cells = [blank if hidden else c for c, hidden in zip(cells, mask, strict=True)]
        return cells

    def _join_arrays(self, values: Arrays) -> list[str]:
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
        return pc.if_else(column.is_valid(), text, "").to_pylist()  # type: ignore[no-any-return]

    def _quote(self, cells: Sequence[str]) -> list[str]:
        special = {self.delimiter, '"', "\n", "\r"}
        return [
            '"' + cell.replace('"', '""') + '"'
            if not special.isdisjoint(cell) or (self.ecsv and not cell)
            else cell
            for cell in cells
        ]

    def close(self) -> None:
        """Complete the file."""
        self.file.close()

    abort = close
