"""What has been fetched, on disk, so that it is never fetched again.

A folder for each release and server holds ``index.sqlite`` (which source is in which row of which
file, and which have no spectrum) and one ``.npy`` file for each chunk fetched. A chunk's file is
complete under its name before the index speaks of it, so that a process may be killed at any point,
and several may share the folder. The oldest files go when the size limit is reached.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import written_whole
from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.cache_folders import INDEX, find_limit
from gaia_redshift.archive.records import read_records, write_records
from gaia_redshift.archive.releases import Release
from gaia_redshift.spectra import XPSpectra

__all__ = ["SpectraCache"]

logger = logging.getLogger(__name__)

NEGATIVE_DAYS = 30.0
"""For so long "no public XP" and "unknown id" are believed without asking again."""
_ABSENT = (int(FetchStatus.NO_PUBLIC_XP), int(FetchStatus.UNKNOWN_ID))
STALE_SECONDS = 86_400.0
"""Files that belong to nothing are removed when they are older than this."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
    number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, n_rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS sources(
    source_id INTEGER PRIMARY KEY, status INTEGER NOT NULL, file INTEGER, row INTEGER,
    created REAL NOT NULL);
CREATE INDEX IF NOT EXISTS sources_file ON sources(file);
"""


def name_folder(release: Release, data_url: str) -> str:
    """Return the folder's name: what one server has says nothing about another."""
    parts = urlsplit(data_url)
    return re.sub(r"[^\w.-]", "_", f"{release.name}-{parts.netloc}")


class SpectraCache:
    """The spectra and answers of one release from one server; ``limit`` is in bytes.

    OSError or sqlite3.Error tell that there can be no cache here.
    """

    def __init__(
        self, root: Path, release: Release, data_url: str, *, limit: float | None = None
    ) -> None:
        self.folder = root / "spectra" / name_folder(release, data_url)
        self.release = release
        self.limit = find_limit() if limit is None else limit
        self.inputs = [f"{release.label} archive ({urlsplit(data_url).netloc})"]
        self._lock = threading.RLock()
        self.writable = True
        self._connection = self._open()
        # Python 3.13 warns of connections that nobody closed.
        weakref.finalize(self, self._connection.close)
        self._remove_stale()

    def _open(self) -> sqlite3.Connection:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return _connect(self.folder / INDEX)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                if not (self.folder / INDEX).exists():
                    raise
                return self._open_read_only()
            # Not a database, or damaged: the spectra can be fetched again.
            logger.warning("%s: damaged (%s); a new one is begun", self.folder / INDEX, error)
            with suppress(FileNotFoundError):
                (self.folder / INDEX).unlink()
            return _connect(self.folder / INDEX)
        except OSError:
            if not (self.folder / INDEX).exists():
                raise
            return self._open_read_only()

    def _open_read_only(self) -> sqlite3.Connection:
        self.writable = False
        uri = f"{(self.folder / INDEX).as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("SELECT count(*) FROM files").fetchone()
        return connection

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def find(self, source_id: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the `FetchStatus` of distinct ids (n,); ``PENDING``: the archive must be asked."""
        status = np.full(len(source_id), FetchStatus.PENDING, dtype=np.int8)
        try:
            places = self._look_up(source_id)
            whole = self._find_whole_files()
        except sqlite3.Error as error:
            logger.warning("%s: cannot be read: %s", self.folder, error)
            return status
        oldest = time.time() - NEGATIVE_DAYS * 86_400
        spectrum = int(FetchStatus.SPECTRUM)
        for i, one in enumerate(source_id.tolist()):
            place = places.get(one)
            if place is None:
                continue
            value, file, _, created = place
            absent = value in _ABSENT and created > oldest
            if (value == spectrum and file in whole) or absent:
                status[i] = value
        return status

    def _look_up(self, source_id: NDArray[np.int64]) -> dict[int, tuple[int, int, int, float]]:
        """Return status, file, row and time by source_id, for those in the index."""
        found: dict[int, tuple[int, int, int, float]] = {}
        ids = source_id.tolist()
        with self._lock:
            for start in range(0, len(ids), 500):
                part = ids[start : start + 500]
                marks = ",".join("?" * len(part))
                for row in self._connection.execute(
                    "SELECT source_id, status, file, row, created FROM sources"
                    f" WHERE source_id IN ({marks})",
                    part,
                ):
                    # What is no number is damage, and as good as not there.
                    if all(isinstance(one, int | float | None) for one in row):
                        found[row[0]] = row[1:]
        return found

    def _list_files(self) -> dict[int, tuple[str, int, int, float]]:
        with self._lock:
            rows = self._connection.execute(
                "SELECT number, name, n_rows, bytes, created FROM files"
            )
            return {row[0]: row[1:] for row in rows}

    def _find_whole_files(self) -> set[int]:
        """Return the files that are there with their full size."""
        sizes = {}
        with suppress(OSError), os.scandir(self.folder) as entries:
            sizes = {e.name: e.stat().st_size for e in entries if e.name.endswith(".npy")}
        return {
            number
            for number, (name, _, size, _) in self._list_files().items()
            if sizes.get(name) == size
        }

    def read(
        self, source_id: NDArray[np.int64]
    ) -> tuple[list[tuple[NDArray[np.intp], XPSpectra]], NDArray[np.intp]]:
        """Return the spectra of distinct ids in parts with their positions, and the positions lost.

        Lost are positions of what is not there after all: removed meanwhile, or damaged.
        """
        try:
            places, files = self._look_up(source_id), self._list_files()
        except sqlite3.Error as error:
            logger.warning("%s: cannot be read: %s", self.folder, error)
            return [], np.arange(len(source_id))
        by_file: dict[int, list[tuple[int, int]]] = {}
        lost: list[int] = []
        spectrum = int(FetchStatus.SPECTRUM)
        for i, one in enumerate(source_id.tolist()):
            place = places.get(one)
            value, file, row, _ = place or (None,) * 4
            if value == spectrum and file in files and isinstance(row, int) and row >= 0:
                by_file.setdefault(file, []).append((row, i))
            else:
                lost.append(i)
        parts = []
        for number, pairs in by_file.items():
            rows = np.array([row for row, _ in pairs], dtype=np.int64)
            positions = np.array([i for _, i in pairs], dtype=np.intp)
            path = self.folder / files[number][0]
            try:
                spectra = read_records(path, rows, source_id[positions])
            except Exception as error:  # NumPy's reader raises anything at damaged files
                logger.info("%s: cannot be used (%s)", path, error)
                lost += positions.tolist()
                self._forget(number)
                continue
            parts.append((positions, spectra))
        return parts, np.array(sorted(lost), dtype=np.intp)

    def _forget(self, number: int) -> None:
        if not self.writable:
            return
        with suppress(sqlite3.Error), self._transaction() as connection:
            connection.execute("DELETE FROM sources WHERE file = ?", (number,))
            connection.execute("DELETE FROM files WHERE number = ?", (number,))

    def add(
        self, source_id: NDArray[np.int64], status: NDArray[np.int8], spectra: XPSpectra | None
    ) -> bool:
        """Remember a chunk but for failed sources; tell whether it is kept (the disk may be full).

        ``spectra`` are those of the ids with status ``SPECTRUM``, in their order.
        """
        if not self.writable:
            return False
        now = time.time()
        absent = np.isin(status, (FetchStatus.NO_PUBLIC_XP, FetchStatus.UNKNOWN_ID))
        rows: list[tuple[Any, ...]] = [
            (i, s, None, None, now)
            for i, s in zip(source_id[absent].tolist(), status[absent].tolist(), strict=True)
        ]
        name = f"{time.time_ns():016x}-{os.getpid()}-{secrets.token_hex(3)}.npy"
        try:
            size = 0
            if spectra is not None and len(spectra):
                with written_whole(self.folder / name) as part:
                    size = write_records(spectra, part)
            with self._transaction() as connection:
                if spectra is not None and len(spectra):
                    cursor = connection.execute(
                        "INSERT INTO files(name, n_rows, bytes, created) VALUES(?, ?, ?, ?)",
                        (name, len(spectra), size, now),
                    )
                    number = cursor.lastrowid
                    spectrum = int(FetchStatus.SPECTRUM)
                    rows += [
                        (i, spectrum, number, row, now)
                        for row, i in enumerate(spectra.source_id.tolist())
                    ]
                connection.executemany("INSERT OR REPLACE INTO sources VALUES(?, ?, ?, ?, ?)", rows)
        except (OSError, sqlite3.Error) as error:
            logger.warning(
                "%s: cannot be written (%s): going on without keeping spectra", self.folder, error
            )
            self.writable = False
            with suppress(OSError):
                (self.folder / name).unlink()
            return False
        with suppress(sqlite3.Error):
            self._evict()
        return True

    def _evict(self) -> None:
        """Remove the oldest files beyond the size limit, never the newest."""
        files = sorted(self._list_files().items(), key=lambda item: item[1][3])
        total = sum(size for _, (_, _, size, _) in files)
        for number, (name, _, size, _) in files[:-1]:
            if total <= self.limit:
                break
            self._forget(number)
            with suppress(OSError):
                (self.folder / name).unlink()
            total -= size

    def _remove_stale(self) -> None:
        """Remove what a killed process left behind: files that the index does not know."""
        if not self.writable:
            return
        known = {name for name, _, _, _ in self._list_files().values()}
        oldest = time.time() - STALE_SECONDS
        for path in self.folder.iterdir():
            if path.name.endswith((".npy", ".part")) and path.name not in known:
                with suppress(OSError):
                    if path.stat().st_mtime < oldest:
                        path.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        # Not WAL: it fails where the folder is on a network file system that machines share.
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN IMMEDIATE")  # is it writable?
        connection.execute("COMMIT")
        connection.execute("SELECT * FROM files").fetchall()  # is it whole?
    except BaseException:
        connection.close()
        raise
    return connection
