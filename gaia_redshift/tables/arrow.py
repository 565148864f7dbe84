"""Numbers in and out of pyarrow's columns, without its own ways.

These (``pa.array``, ``to_numpy``) import pandas first, which takes longer than all else that a
short file needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_number", "make_array", "make_text", "take_numbers"]


def is_number(kind: Any) -> bool:
    """Tell whether a pyarrow type is one of numbers or booleans."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def make_array(values: Any, kind: Any = None, mask: NDArray[np.bool_] | None = None) -> Any:
    """Return values (n,) as a pyarrow array of a type, by default their own; null where masked."""
    import pyarrow as pa

    own = getattr(values, "dtype", np.dtype(object))
    if own.kind not in "iuf" or not own.isnative or kind not in (None, pa.from_numpy_dtype(own)):
        return pa.array(values, type=kind, mask=mask)
    valid = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(own), len(values), [valid, data])


def make_text(cells: Sequence[str]) -> Any:
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
