"""How numbers are packed in the Parquet files of this package."""

from __future__ import annotations

from typing import Any

__all__ = ["choose_encoding"]


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
