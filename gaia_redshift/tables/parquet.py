"""Parquet: a row group for each block, packed by zstd and with checksums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift.tables.arrow import make_array
from gaia_redshift.tables.columns import (
    META_KEY,
    Arrays,
    Block,
    Column,
    describe_table,
    make_table,
)

__all__ = ["ParquetSink", "choose_encoding", "make_field", "to_arrow"]


class ParquetSink:
    """Write blocks as row groups.

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
        return make_array(cells, kind, mask if mask.any() else None)
    if data.dtype.kind == "f":  # masked numbers become NaN, whatever the block holds
        data = np.where(mask, data.dtype.type(np.nan), data)
    if kind is not None and pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(make_array(data.ravel()), data.shape[1])
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
