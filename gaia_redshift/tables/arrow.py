"""Arrow's columns, and what is written with them: Parquet, csv and ECSV.

Numbers go in and out without Arrow's own ways (``pa.array``, ``to_numpy``), which import pandas
first: that takes longer than all else that a short file needs.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import open_target
from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import (
    META_KEY,
    Arrays,
    Block,
    Column,
    describe_table,
    escape_texts,
    make_table,
)

__all__ = [
    "ParquetSink",
    "TextSink",
    "choose_encoding",
    "is_number",
    "make_field",
    "take_numbers",
    "to_arrow",
]


def is_number(kind: Any) -> bool:
    """Tell whether a pyarrow type is one of numbers or booleans."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _make_array(values: Any, kind: Any = None, mask: NDArray[np.bool_] | None = None) -> Any:
    """Return values (n,) as a pyarrow array of a type, by default their own; null where masked."""
    import pyarrow as pa

    own = getattr(values, "dtype", np.dtype(object))
    if own.kind not in "iuf" or not own.isnative or kind not in (None, pa.from_numpy_dtype(own)):
        return pa.array(values, type=kind, mask=mask)
    valid = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(own), len(values), [valid, data])


def _make_text(cells: Sequence[str]) -> Any:
    """Return texts (n,) as a pyarrow array of large strings."""
    import pyarrow as pa

    texts = [cell.encode() for cell in cells]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return pa.LargeStringArray.from_buffers(
        len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(texts))
    )


def take_numbers(column: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return numbers or booleans (n,) of a pyarrow column, and where it is null; there they are 0.

    They may be the column's own memory.
    """
    if hasattr(column, "chunks"):
        parts = [take_numbers(chunk) for chunk in column.chunks]
        if len(parts) == 1:
            return parts[0]
        values = [np.empty(0, column.type.to_pandas_dtype()), *(part[0] for part in parts)]
        return np.concatenate(values), np.concatenate([np.empty(0, bool), *(p[1] for p in parts)])
    dtype = np.dtype(column.type.to_pandas_dtype())
    end = column.offset + len(column)
    valid, data = column.buffers()
    if data is None:
        return np.zeros(len(column), dtype), np.ones(len(column), bool)
    found = _take_bits(data, end) if dtype.kind == "b" else np.frombuffer(data, dtype)[:end]
    found = found[column.offset :]
    if not column.null_count:
        return found, np.zeros(len(found), bool)
    null = ~_take_bits(valid, end)[column.offset :]
    return np.where(null, dtype.type(0), found), null


def _take_bits(buffer: Any, n: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(buffer, np.uint8)
    return np.unpackbits(packed, count=n, bitorder="little").view(np.bool_)


def make_field(column: Column) -> Any:
    """Return a column as a field of an arrow schema; arrays of one length are lists of that."""
    import pyarrow as pa

    kind = pa.string() if column.dtype.kind == "U" else pa.from_numpy_dtype(column.dtype)
    if column.ragged:
        kind = pa.list_(kind)
    elif len(column.shape) == 1 and column.shape[0] and column.dtype.kind in "iuf":
        kind = pa.list_(kind, column.shape[0])
    else:
        for _ in column.shape:
            kind = pa.list_(kind)
    words = {key: value for key, value in column.words.items() if value or column.note}
    return pa.field(column.name, kind, metadata=words or None)


def to_arrow(values: Any, kind: Any = None) -> Any:
    """Return a block's values as a pyarrow array, null where masked or without an array."""
    import pyarrow as pa

    if isinstance(values, Arrays):
        offsets = np.concatenate([[0], np.cumsum(values.lengths)]).astype(np.int32)
        absent = pa.array(values.lengths == 0)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.flat), mask=absent)
    mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
    if data.ndim == 1:
        cells = data.tolist() if data.dtype.kind == "U" else data
        return _make_array(cells, kind, mask if mask.any() else None)
    if data.dtype.kind == "f":  # masked numbers become NaN, whatever the block holds
        data = np.where(mask, data.dtype.type(np.nan), data)
    if kind is not None and pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_make_array(data.ravel()), data.shape[1])
    return pa.array(data.tolist(), type=kind)


def choose_encoding(schema: Any) -> dict[str, Any]:
    """Return options of ``pyarrow.parquet.ParquetWriter`` for a schema.

    Lists of floats (coefficients, correlations, fluxes, densities) hardly repeat: the dictionary
    that Arrow makes of every column by default only makes them larger and slower. (The encoding
    BYTE_STREAM_SPLIT would make them smaller, but pyarrow 16 cannot read it where a list is empty.)
    """
    import pyarrow as pa

    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

    def is_floats(kind: Any) -> bool:
        return any(test(kind) for test in lists) and pa.types.is_floating(kind.value_type)

    others = [field.name for field in schema if not is_floats(field.type)]
    return {"compression": "zstd", "use_dictionary": others or False, "write_page_checksum": True}


class ParquetSink:
    """Write blocks as row groups of Parquet, packed by zstd and with checksums.

    ``for_astropy`` adds what astropy's own reader wants, some milliseconds' work.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column],
        meta: Mapping[str, Any] | None = None,
        *,
        for_astropy: bool = True,
    ) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.columns = columns
        metadata = {}
        if meta is not None:
            metadata[META_KEY] = describe_table(columns, meta)
        if meta is not None and for_astropy:
            from astropy.table.meta import get_yaml_from_table

            metadata["table_meta_yaml"] = "\n".join(get_yaml_from_table(make_table(columns, meta)))
            for column in columns:
                if column.dtype.kind == "U":  # astropy's reader warns without
                    metadata[f"table::len::{column.name}"] = str(max(column.note["widest"], 1))
        self.schema = pa.schema([make_field(c) for c in columns], metadata=metadata or None)
        self.writer = parquet.ParquetWriter(str(path), self.schema, **choose_encoding(self.schema))

    def write(self, block: Block) -> None:
        """Append rows."""
        import pyarrow as pa

        arrays = [
            to_arrow(block[column.name], self.schema.field(i).type)
            for i, column in enumerate(self.columns)
        ]
        self.writer.write_table(pa.table(arrays, schema=self.schema))

    def close(self) -> None:
        """Complete the file."""
        self.writer.close()

    abort = close


class TextSink:
    """Write blocks as lines of csv or ECSV.

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
        self.file = open_target(path, packed)
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
        columns = [_make_text(c) if isinstance(c, list) else c.cast("large_string") for c in cells]
        delimiter, newline, nothing = _make_text([self.delimiter, "\n", ""])
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
