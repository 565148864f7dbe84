"""What has been fetched, on disk, so that it is never fetched again.

A folder for each release and server holds a file for each chunk fetched (``chunk_files``), which
appears whole under its name and does not change. There is nothing else: so a process may be killed
at any point, and several may share the folder. Of files that speak of the same source the newest
counts; the oldest go when the size limit is reached.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import written_whole
from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.chunk_files import ENDING, KNOWN, Index, read_records, write_records
from gaia_redshift.archive.releases import Release
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import XPSpectra

__all__ = ["CacheFolder", "SpectraCache", "find_cache_root", "find_limit", "list_cache_folders"]

logger = logging.getLogger(__name__)

DEFAULT_LIMIT_GB = 20.0
NEGATIVE_DAYS = 30.0
"""For so long "no public XP" and "unknown id" are believed without asking again."""
STALE_SECONDS = 86_400.0
"""Files that were not finished are removed when they are older than this."""


def find_cache_root(cache: bool | str | os.PathLike[str] = True) -> Path:
    """Return the folder of the cache, which need not exist yet.

    Parameters
    ----------
    cache : True or path
        True: ``GAIA_REDSHIFT_CACHE_DIR`` if it is set, else astropy's place for caches
        (``$XDG_CACHE_HOME/gaia_redshift``, usually ``~/.cache/gaia_redshift``).

    Returns
    -------
    Path
    """
    if cache is not True:
        if isinstance(cache, bool) or not isinstance(cache, str | os.PathLike):
            raise InputError(f"cache takes True, False or a folder, not {cache!r}")
        return Path(os.fspath(cache)).expanduser().absolute()
    named = os.environ.get("GAIA_REDSHIFT_CACHE_DIR", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    from astropy.config import paths

    try:
        return Path(paths.get_cache_dir_path("gaia_redshift", ensure_exists=False))
    except (AttributeError, TypeError):  # astropy before version 8
        return Path(paths.get_cache_dir("gaia_redshift"))


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
