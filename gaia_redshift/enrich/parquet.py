"""Parquet: row groups are read and written in blocks, with the schema's own metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gaia_redshift._files import one_line
from gaia_redshift.enrich.columns import (
    BLOCK_ROWS,
    Addition,
    Cells,
    add_to_description,
    add_to_yaml,
)
from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import read_parquet_infos
from gaia_redshift.readers.columns import set_masks_apart
from gaia_redshift.readers.values import fold_masks, from_arrow
from gaia_redshift.tables.arrow import make_field
from gaia_redshift.tables.columns import META_KEY, Column

__all__ = ["ParquetCatalogue"]

_ASTROPY_KEY = b"table_meta_yaml"
_PROVENANCE_KEY = b"gaia_redshift_provenance"


class ParquetCatalogue:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self.schema = file.schema_arrow
        self.names: list[str] = list(self.schema.names)
        self.masks = set_masks_apart(self.names)[1]

    def _open(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            reason = one_line(error, 150)
            raise InputError(f"{self.path}: cannot be read as Parquet: {reason}") from None

    def unit(self, name: str) -> str:
        """Return the unit of a column, where the file says it."""
        about = read_parquet_infos(self.schema).get(name)
        return (about.unit if about else None) or ""

    def scan(self, wanted: Sequence[str]) -> Iterator[Cells]:
        """Yield the wanted columns block by block."""
        with self._open() as file:
            masks = [self.masks[name] for name in wanted if name in self.masks]
            columns = list(dict.fromkeys([*wanted, *masks]))
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=columns):
                yield self._pick(batch, wanted)

    def _pick(self, batch: Any, wanted: Sequence[str]) -> Cells:
        masks = {name: self.masks[name] for name in wanted if name in self.masks}
        names = batch.schema.names
        columns = {n: batch.column(names.index(n)) for n in (*wanted, *masks.values())}
        folded = fold_masks(columns, masks)
        return {name: from_arrow(folded[name]) for name in wanted}

    def rewrite(self, target: Path, added: Addition) -> None:
        """Copy the file to ``target`` with the new columns."""
        import pyarrow as pa
        from pyarrow import parquet

        new, meta = added.new, added.meta
        fields = [*self.schema, *map(make_field, new)]
        schema = pa.schema(fields, metadata=self._add_metadata(new, meta))
        codec = self._find_compression()
        with (
            self._open() as file,
            parquet.ParquetWriter(target, schema, compression=codec) as writer,
        ):
            for batch in file.iter_batches(batch_size=BLOCK_ROWS):
                values = added.compute(self._pick(batch, added.wanted))
                arrays = list(batch.columns)
                for column in new:
                    found = values[column.name]
                    # Null integers would become floats in many readers, and ids lose digits.
                    floats = column.dtype.kind == "f"
                    arrays.append(pa.array(found, mask=column.is_null(found) if floats else None))
                writer.write_batch(pa.record_batch(arrays, schema=schema))

    def _find_compression(self) -> str:
        with self._open() as file:
            groups, columns = file.metadata.num_row_groups, file.metadata.num_columns
            if not (groups and columns):
                return "snappy"
            codec = str(file.metadata.row_group(0).column(0).compression).lower()
        return "none" if codec == "uncompressed" else codec

    def _add_metadata(self, new: Sequence[Column], meta: dict[str, Any]) -> dict[bytes, bytes]:
        """Tell astropy's reader, and this package's own, about the new columns."""
        metadata = dict(self.schema.metadata or {})
        metadata[_PROVENANCE_KEY] = json.dumps(meta).encode()
        if _ASTROPY_KEY in metadata:
            lines = metadata[_ASTROPY_KEY].decode().split("\n")
            metadata[_ASTROPY_KEY] = "\n".join(add_to_yaml(lines, new, meta)).encode()
        key = META_KEY.encode()
        if key in metadata:
            metadata[key] = add_to_description(metadata[key].decode(), new, meta).encode()
        return metadata
