"""HDF5: what a table is, as astropy writes it; a dataset for each column where arrays differ."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.tables.columns import (
    META_KEY,
    Arrays,
    Block,
    Column,
    Sink,
    describe_table,
    make_table,
)

__all__ = ["HDF5_PATH", "open_hdf5"]

HDF5_PATH = "gaia_redshift"
MASK = ".mask"
VERSION = "v110"
"""Since 1.10 the structure has checksums, too: damaged, HDF5 may read it for ever."""


def open_hdf5(path: Path, columns: Sequence[Column], meta: Mapping[str, Any] | None = None) -> Sink:
    """Open a file for writing; spectra, which have no ``meta``, are written as datasets."""
    return _Datasets(path, columns) if meta is None else _OneDataset(path, columns, meta)


class _OneDataset:
    """Put a table together in memory."""

    def __init__(self, path: Path, columns: Sequence[Column], meta: Mapping[str, Any]) -> None:
        self.path, self.columns, self.meta = path, columns, meta
        self.blocks: list[Block] = []

    def write(self, block: Block) -> None:
        """Append rows."""
        self.blocks.append(block)

    def close(self) -> None:
        """Complete the file."""
        import h5py

        values = {}
        for column in self.columns:
            whole = np.ma.concatenate([block[column.name] for block in self.blocks])
            values[column.name] = whole if np.ma.getmaskarray(whole).any() else whole.data
        table = make_table(self.columns, self.meta, values)
        made = io.BytesIO()  # HDF5 on a full disk ends in a segmentation fault
        with h5py.File(made, "w", libver=VERSION) as file:
            # With checksums, which need a row to be of.
            options = {"path": HDF5_PATH, "serialize_meta": True, "fletcher32": bool(len(table))}
            table.write(file, format="hdf5", **options)
            description = describe_table(self.columns, self.meta).encode("ascii")
            file[HDF5_PATH].attrs[META_KEY] = np.bytes_(description)
        self.path.write_bytes(made.getbuffer())

    def abort(self) -> None:
        """Forget it."""
        self.blocks = []


class _Datasets:
    """Write a dataset per column; arrays are rows of a 2-D dataset, NaN beyond their length.

    What is masked, a dataset ``NAME.mask`` says, as in astropy's files.
    """

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import h5py

        self.columns = columns
        self.file = h5py.File(path, "w", track_order=True, libver=VERSION)
        self.n = 0
        self.text = h5py.string_dtype()
        for column in columns:
            dataset = self._create(column)
            dataset.attrs.update({key: value for key, value in column.words.items() if value})

    def _create(self, column: Column) -> Any:
        if column.ragged:
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

    def write(self, block: Block) -> None:
        """Append rows."""
        start = self.n
        for column in self.columns:
            dataset, values = self.file[column.name], block[column.name]
            if isinstance(values, Arrays):
                n, width = values.padded.shape
                self.n = start + n
                dataset.resize((self.n, max(width, dataset.shape[1])))
                if width:
                    dataset[start:, :width] = values.padded
                continue
            mask, data = np.ma.getmaskarray(values), np.ma.getdata(values)
            self.n = start + len(data)
            dataset.resize((self.n,))
            fill = np.nan if data.dtype.kind == "f" else data.dtype.type()
            cells = np.where(mask, fill, data)
            if data.dtype.kind == "U":  # in which HDF5 has no NUL
                texts = [text.replace("\0", r"\x00") for text in cells.tolist()]
                cells = np.array(texts, dtype=object)
            dataset[start:] = cells
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

    abort = close
