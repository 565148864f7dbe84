"""What has been fetched, on disk, so that it is never fetched again.

A folder for each release and server holds a file for each chunk fetched, which appears whole under
its name and does not change. There is nothing else: so a process may be killed at any point, and
several may share the folder. Of files that speak of the same source the newest counts; the oldest
go when the size limit is reached.

A file has a head, the ids asked for with what the archive had for each (`KNOWN`), then the spectra
as an array of records in NumPy's format, to be read one by one; all with checksums.
"""

from __future__ import annotations

import io
import logging
import os
import re
import secrets
import struct
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gaia_redshift._files import written_whole
from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.settings import find_cache_root
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import BandSpectra, XPSpectra

if TYPE_CHECKING:
    from gaia_redshift.archive.releases import Release

__all__ = ["CacheFolder", "SpectraCache", "find_limit", "list_cache_folders"]

logger = logging.getLogger(__name__)

ENDING = ".chunk"
KNOWN = np.dtype([("source_id", "<i8"), ("status", "i1")])
_HEAD = struct.Struct("<8sIQI")
"""What it is, the number of ids, the bytes of the file, the checksum of the ids."""
_NAME = b"GRZCHUNK"
_ARRAYS = ("coefficients", "errors", "correlations")
DEFAULT_LIMIT_GB = 20.0
NEGATIVE_DAYS = 30.0
"""For so long "no public XP" and "unknown id" are believed without asking again."""
STALE_SECONDS = 86_400.0
"""Files that were not finished are removed when they are older than this."""


def find_limit() -> float:
    """Return the size limit in bytes: ``GAIA_REDSHIFT_CACHE_GB``, else 20 GB."""
    text = os.environ.get("GAIA_REDSHIFT_CACHE_GB", "").strip()
    try:
        limit = float(text) if text else DEFAULT_LIMIT_GB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise InputError(f"GAIA_REDSHIFT_CACHE_GB must be a number of gigabytes, not '{text}'")
    return limit * 1e9


class CacheFolder:
    """One folder of the cache, for ``gaia-redshift cache``.

    Attributes
    ----------
    path : Path
    n_spectra, n_absent : int
        Sources with a spectrum, and sources known to have none.
    n_bytes : int
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_bytes = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
        index = Index(path)
        self.n_spectra = int((index.status == FetchStatus.SPECTRUM).sum())
        self.n_absent = len(index.ids) - self.n_spectra

    def clear(self) -> None:
        """Remove it; a process that is fetching goes on without what it kept."""
        for path in (*self.path.glob(f"*{ENDING}"), *self.path.glob(f".*{ENDING}.*")):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


def list_cache_folders(cache: bool | str | os.PathLike[str] = True) -> list[CacheFolder]:
    """Return the folders of the cache, one for each release and server.

    Parameters
    ----------
    cache : True or path
        As for `find_cache_root`.

    Returns
    -------
    list of CacheFolder
    """
    files = (find_cache_root(cache) / "spectra").glob(f"*/*{ENDING}")
    return [CacheFolder(path) for path in sorted({file.parent for file in files})]


class SpectraCache:
    """The spectra and answers of one release from one server; ``limit`` is in bytes.

    OSError tells that there can be no cache here.
    """

    def __init__(
        self, root: Path, release: Release, data_url: str, *, limit: float | None = None
    ) -> None:
        # What one server has says nothing about another.
        name = re.sub(r"[^\w.-]", "_", f"{release.name}-{urlsplit(data_url).netloc}")
        self.folder = root / "spectra" / name
        self.limit = find_limit() if limit is None else limit
        self.folder.mkdir(parents=True, exist_ok=True)
        self.writable = os.access(self.folder, os.W_OK)
        self._lock = threading.RLock()
        self._index = Index(self.folder)
        for part in self.folder.glob(f".*{ENDING}.*"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - STALE_SECONDS:
                    part.unlink()

    def find(self, source_id: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the `FetchStatus` of distinct ids (n,); ``PENDING``: the archive must be asked."""
        with self._lock:
            self._index.look()
            status, file, _ = self._index.find(source_id)
            created = np.array([one.created for one in self._index.files.values()] or [0.0])
        old = (status > FetchStatus.SPECTRUM) & (
            created[file] < time.time() - NEGATIVE_DAYS * 86_400
        )
        return np.where(old, np.int8(FetchStatus.PENDING), status)

    def read(
        self, source_id: NDArray[np.int64]
    ) -> tuple[list[tuple[NDArray[np.intp], XPSpectra]], NDArray[np.intp]]:
        """Return the spectra of distinct ids in parts with their positions, and the positions lost.

        Lost are positions of what is not there after all: removed meanwhile, or damaged.
        """
        with self._lock:
            self._index.look()
            status, file, row = self._index.find(source_id)
            files = list(self._index.files.items())
        lost = status != FetchStatus.SPECTRUM
        parts = []
        for number in np.unique(file[~lost]).tolist():
            positions = np.flatnonzero(~lost & (file == number))
            name, about = files[number]
            try:
                spectra = read_records(
                    self.folder / name, about, row[positions], source_id[positions]
                )
            except Exception as error:  # it has gone or is damaged, which can raise anything
                logger.info("%s: cannot be used (%s)", self.folder / name, error)
                lost[positions] = True
                with self._lock:
                    self._index.drop(name)
                continue
            parts.append((positions, spectra))
        return parts, np.flatnonzero(lost)

    def add(
        self, source_id: NDArray[np.int64], status: NDArray[np.int8], spectra: XPSpectra | None
    ) -> bool:
        """Remember a chunk but for failed sources; tell whether it is kept (the disk may be full).

        ``spectra`` are those of the ids with status ``SPECTRUM``, in their order.
        """
        if not self.writable:
            return False
        answered = status != FetchStatus.FAILED
        known = np.empty(int(answered.sum()), dtype=KNOWN)
        known["source_id"], known["status"] = source_id[answered], status[answered]
        if not len(known):
            return True
        name = f"{time.time_ns():016x}-{secrets.token_hex(4)}{ENDING}"
        try:
            with written_whole(self.folder / name) as part:
                write_records(part, known, spectra)
        except OSError as error:
            logger.warning(
                "%s: cannot be written (%s): going on without keeping spectra", self.folder, error
            )
            self.writable = False
            return False
        with self._lock:
            self._index.look()
            self._evict()
        return True

    def _evict(self) -> None:
        """Remove the oldest files beyond the size limit, never the newest."""
        files = list(self._index.files.items())
        total = sum(about.size for _, about in files)
        for name, about in files[:-1]:
            if total <= self.limit:
                break
            with suppress(OSError):
                (self.folder / name).unlink()
            total -= about.size


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
