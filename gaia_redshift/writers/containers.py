"""Parquet (zstd) and HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.readers.columns import MASK
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.parquet import choose_encoding
from gaia_redshift.writers.records import Arrays, OutputColumn, check_block, take_values
from gaia_redshift.writers.text import to_arrow

__all__ = ["HDF5Sink", "ParquetSink"]


class ParquetSink:
    """Write blocks as row groups; arrays are lists."""

    def __init__(self, path: Path, columns: list[OutputColumn]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.columns = columns
        self.schema = pa.schema([_make_field(pa, column) for column in columns])
        self.writer = parquet.ParquetWriter(str(path), self.schema, **choose_encoding(self.schema))

    def write(self, spectra: XPSpectra) -> None:
        """Append a block."""
        import pyarrow as pa

        check_block(spectra, self.columns)
        arrays = [to_arrow(take_values(spectra, column)) for column in self.columns]
        self.writer.write_table(pa.table(arrays, schema=self.schema))

    def close(self) -> None:
        """Complete the file."""
        self.writer.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self.writer.close()


def _make_field(pa: Any, column: OutputColumn) -> Any:
    kind = pa.string() if column.dtype.kind == "U" else pa.from_numpy_dtype(column.dtype)
    known = {"unit": column.unit, "description": column.description, "ucd": column.ucd}
    metadata = {key: value for key, value in known.items() if value}
    return pa.field(
        column.name, pa.list_(kind) if column.is_array else kind, metadata=metadata or None
    )


class HDF5Sink:
    """Write a dataset per column; arrays are rows of a 2-D dataset, NaN beyond their length.

    What is masked, a dataset ``NAME.mask`` says, as in astropy's files.
    """

    def __init__(self, path: Path, columns: list[OutputColumn]) -> None:
        import h5py

        self.columns = columns
        # Since 1.10 the structure has checksums, too: damaged, HDF5 may read it for ever.
        self.file = h5py.File(path, "w", track_order=True, libver="v110")
        self.n = 0
        self.text = h5py.string_dtype()
        for column in columns:
            dataset = self._create(h5py, column)
            for key in ("unit", "description", "ucd"):
                if getattr(column, key):
                    dataset.attrs[key] = getattr(column, key)

    def _create(self, h5py: Any, column: OutputColumn) -> Any:
        if column.is_array:
            return self.file.create_dataset(
                column.name,
                (0, 1),
                column.dtype,
                maxshape=(None, None),
                chunks=(64, 512 if column.name.endswith("correlations") else 64),
                fillvalue=np.nan,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,
            )
        kind = self.text if column.dtype.kind == "U" else column.dtype
        return self._create_plain(column.name, kind)

    def _create_plain(self, name: str, kind: Any) -> Any:
        # With checksums, which HDF5 has not for text: a damaged file would give other numbers.
        about = {"maxshape": (None,), "chunks": (4096,), "fletcher32": kind is not self.text}
        return self.file.create_dataset(name, (0,), kind, **about)

    def write(self, spectra: XPSpectra) -> None:
        """Append a block."""
        check_block(spectra, self.columns)
        start, self.n = self.n, self.n + len(spectra)
        for column in self.columns:
            dataset = self.file[column.name]
            values = take_values(spectra, column)
            if isinstance(values, Arrays):
                width = values.padded.shape[1]
                dataset.resize((self.n, max(width, dataset.shape[1])))
                if width:
                    dataset[start:, :width] = values.padded
                continue
            dataset.resize((self.n,))
            mask = np.ma.getmaskarray(values)
            fill = np.nan if values.dtype.kind == "f" else values.dtype.type()
            cells = np.where(mask, fill, np.ma.getdata(values))
            dataset[start:] = cells.astype(object) if values.dtype.kind == "U" else cells
            self._hide(column.name + MASK, start, mask)

    def _hide(self, name: str, start: int, mask: NDArray[np.bool_]) -> None:
        """Write a column's mask, from the first row on that is masked."""
        if name not in self.file:
            if not mask.any():
                return
            self._create_plain(name, bool)
        self.file[name].resize((self.n,))
        self.file[name][start:] = mask

    def close(self) -> None:
        """Complete the file."""
        self.file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self.file.close()
