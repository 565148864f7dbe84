"""Pieces joined to one file, with split and manifest, never more than a block in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line, written_whole
from gaia_redshift.datasets.file import MANIFEST_KEY, read_columns
from gaia_redshift.datasets.manifest import hash_file, manifest_path, write_json
from gaia_redshift.datasets.splits import PARTS
from gaia_redshift.errors import InputError
from gaia_redshift.tables.parquet import choose_encoding

__all__ = ["count_parts", "gather_places", "write_dataset"]

_ROWS = 4096


def gather_places(paths: list[Path]) -> dict[str, NDArray[Any]]:
    """Return ids and positions of all pieces."""
    parts = [read_columns(path, ["source_id", "ra", "dec"]) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def count_parts(part: NDArray[np.str_], region: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Count galaxies and regions of each part."""
    return {
        name: {
            "galaxies": int((part == name).sum()),
            "regions": len(np.unique(region[part == name])),
        }
        for name in PARTS
    }


def write_dataset(
    target: Path,
    paths: list[Path],
    part: NDArray[np.str_],
    region: NDArray[np.int64],
    manifest: dict[str, Any],
) -> None:
    """Join the pieces, a block at a time, with their split; file and manifest appear complete."""
    import pyarrow as pa
    from pyarrow import parquet

    def iter_tables() -> Iterator[pa.Table]:
        start = 0
        for path in paths:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROWS):
                    rows = slice(start, start + len(batch))
                    start += len(batch)
                    table = pa.Table.from_batches([batch])
                    at = table.schema.get_field_index("quality")
                    table = table.add_column(at, "region", pa.array(region[rows]))
                    yield table.add_column(at, "split", pa.array(part[rows].astype(object)))

    first = next(tables := iter_tables())
    text = json.dumps(manifest, default=str).encode()
    schema = first.schema.with_metadata({MANIFEST_KEY: text})
    try:
        with written_whole(target) as file:
            with parquet.ParquetWriter(file, schema, **choose_encoding(schema)) as writer:
                for table in chain([first], tables):
                    writer.write_table(table.replace_schema_metadata(schema.metadata))
            manifest["sha256"] = hash_file(file)
        write_json(manifest, manifest_path(target))
    except OSError as error:
        raise InputError(f"cannot write {target}: {one_line(error)}") from error
