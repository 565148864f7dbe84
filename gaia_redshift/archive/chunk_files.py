"""Chunks of spectra as files: what a folder of them knows, and records to be read one by one.

A file has a head, the ids asked for with what the archive had for each (`KNOWN`), then the spectra
as an array of records in NumPy's format; all with checksums.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["ENDING", "KNOWN", "ChunkFile", "Index", "read_records", "write_records"]

logger = logging.getLogger(__name__)

ENDING = ".chunk"
KNOWN = np.dtype([("source_id", "<i8"), ("status", "i1")])
_HEAD = struct.Struct("<8sIQI")
"""What it is, the number of ids, the bytes of the file, the checksum of the ids."""
_NAME = b"GRZCHUNK"
_ARRAYS = ("coefficients", "errors", "correlations")


@dataclass(frozen=True)
class ChunkFile:
    """What a file knows of sources, its time and its size."""

    known: NDArray[np.void]
    created: float
    size: int


class Index:
    """What the files of a folder know: distinct ids (n,), rising, and for each the newest answer.

    ``file`` counts ``files``, which are in order of time; ``row`` is that of the record in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, ChunkFile] = {}
        self._sort()
        self.look()

    def look(self) -> None:
        """Take note of files that are new or have gone."""
        names: list[str] = []
        with suppress(OSError), os.scandir(self.folder) as entries:
            names = sorted(one.name for one in entries if one.name.endswith(ENDING))
        if names != list(self.files):
            self.files = {n: self.files.get(n) or _look_into(self.folder / n) for n in names}
            self._sort()

    def drop(self, name: str) -> None:
        """Believe a file no longer."""
        if name in self.files:
            self.files[name] = replace(self.files[name], known=np.zeros(0, dtype=KNOWN))
            self._sort()

    def _sort(self) -> None:
        parts = [about.known for about in self.files.values()]
        known = np.concatenate([np.zeros(0, dtype=KNOWN), *parts])
        file = np.repeat(
            np.arange(len(parts)), np.array([len(part) for part in parts], dtype=np.intp)
        )
        rows = [np.cumsum(part["status"] == FetchStatus.SPECTRUM) - 1 for part in parts]
        order = np.argsort(known["source_id"], kind="stable")
        ids = known["source_id"][order]
        newest = np.append(ids[1:] != ids[:-1], True)[: len(ids)]
        order = order[newest]
        self.ids, self.status, self.file = ids[newest], known["status"][order], file[order]
        self.row = np.concatenate([np.zeros(0, dtype=np.intp), *rows])[order]

    def find(
        self, source_id: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.intp], NDArray[np.intp]]:
        """Return status, file and row of ids (n,); the status of those not there is ``PENDING``."""
        place = np.searchsorted(self.ids, source_id)
        have = np.zeros(len(source_id), dtype=bool)
        inside = place < len(self.ids)
        have[inside] = self.ids[place[inside]] == source_id[inside]
        status = np.full(len(source_id), FetchStatus.PENDING, dtype=np.int8)
        file, row = (np.zeros(len(source_id), dtype=np.intp) for _ in range(2))
        for found, values in ((status, self.status), (file, self.file), (row, self.row)):
            found[have] = values[place[have]]
        return status, file, row


def _look_into(path: Path) -> ChunkFile:
    """Read what a file knows; nothing if it is damaged, cut short or something else."""
    nothing = np.zeros(0, dtype=KNOWN)
    try:
        with path.open("rb") as stream:
            about = os.fstat(stream.fileno())
            head = stream.read(_HEAD.size)
            name, n, size, checksum = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
            known = stream.read(n * KNOWN.itemsize) if name == _NAME else b""
    except (OSError, MemoryError):  # it has gone
        return ChunkFile(nothing, 0.0, 0)
    if name != _NAME or size != about.st_size or zlib.crc32(known) != checksum:
        logger.info("%s: is damaged or no file of spectra", path)
        return ChunkFile(nothing, about.st_mtime, about.st_size)
    return ChunkFile(np.frombuffer(known, dtype=KNOWN), about.st_mtime, size)


def write_records(path: Path, known: NDArray[np.void], spectra: XPSpectra | None) -> None:
    """Write what is known of sources, and the spectra of those that have one."""
    records = _to_records(spectra) if spectra is not None else np.zeros(0, dtype=KNOWN)
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(records))
    size = _HEAD.size + known.nbytes + len(header.getvalue()) + records.nbytes
    with path.open("wb") as file:
        file.write(_HEAD.pack(_NAME, len(known), size, zlib.crc32(known.tobytes())))
        file.write(known.tobytes() + header.getvalue())
        file.write(records.view(np.uint8).data)


def _to_records(spectra: XPSpectra) -> NDArray[np.void]:
    """Return spectra as one structured array, each record with its checksum."""
    columns: dict[str, NDArray[Any]] = {"source_id": spectra.source_id, "flags": spectra.flags}
    for name, band in (("bp", spectra.bp), ("rp", spectra.rp)):
        columns[f"{name}_n_parameters"] = band.n_coefficients.astype("<i2")
        columns[f"{name}_basis_function_id"] = band.basis_id.astype("<i2")
        arrays = {f"{name}_{quantity}": getattr(band, quantity) for quantity in _ARRAYS}
        columns |= {key: values for key, values in arrays.items() if values is not None}
    fields: list[Any] = [
        (key, values.dtype.newbyteorder("<"), values.shape[1:]) for key, values in columns.items()
    ]
    records = np.empty(len(spectra), dtype=[*fields, ("crc32", "<u4")])
    for key, values in columns.items():
        records[key] = values
    records["crc32"] = _sum_up(records)
    return records


def _sum_up(records: NDArray[Any]) -> NDArray[np.uint32]:
    """Return a checksum of each record and of its form, but for its last field, which holds it."""
    size, form = records.dtype.itemsize, zlib.crc32(repr(records.dtype.descr).encode())
    rows = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), size)
    return np.array([zlib.crc32(row, form) for row in rows[:, : size - 4]], dtype=np.uint32)


def read_records(
    path: Path, about: ChunkFile, rows: NDArray[np.intp], source_id: NDArray[np.int64]
) -> XPSpectra:
    """Read rows (n,), which must hold these source ids (n,); OSError or ValueError if not."""
    with path.open("rb") as stream:
        stream.seek(_HEAD.size + about.known.nbytes)
        npy.read_magic(stream)
        shape, _, dtype = npy.read_array_header_1_0(stream)
        records: Any = np.memmap(stream, dtype, mode="r", offset=stream.tell(), shape=shape)
    in_a_row = bool((np.diff(rows) == 1).all())  # then a slice, which costs no copy
    chosen = records[rows[0] : rows[-1] + 1] if in_a_row else records[rows]
    if (chosen["source_id"] != source_id).any() or (_sum_up(chosen) != chosen["crc32"]).any():
        raise ValueError("is damaged")
    bands = {}
    for band in ("bp", "rp"):
        arrays: dict[str, Any] = {
            quantity: np.array(chosen[f"{band}_{quantity}"])
            for quantity in _ARRAYS
            if f"{band}_{quantity}" in (dtype.names or ())
        }
        bands[band] = BandSpectra(
            n_coefficients=np.array(chosen[f"{band}_n_parameters"]),
            basis_id=np.array(chosen[f"{band}_basis_function_id"]),
            **arrays,
        )
    return XPSpectra(
        source_id=np.array(chosen["source_id"]),
        bp=bands["bp"],
        rp=bands["rp"],
        flags=np.array(chosen["flags"]),
    )
