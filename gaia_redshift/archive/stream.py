"""Chunks fetched in parallel, handed out in the order asked for, in blocks of bounded memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._progress import open_bar
from gaia_redshift.archive.account import FetchAccount, FetchStatus, status_flags
from gaia_redshift.archive.cache import SpectraCache
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.datalink import Chunk, fetch_chunk
from gaia_redshift.archive.failures import TransientError
from gaia_redshift.archive.releases import Release
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.sources import Wanted
from gaia_redshift.errors import ArchiveError, InputError
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["Downloads", "FetchStream"]

logger = logging.getLogger(__name__)

NOT_CACHED = "it is not in the cache, and the archive is not asked when offline"
NOT_ASKED = "the archive had stopped answering before it was asked for"


class FetchStream:
    """The spectra of the sources wanted, block by block.

    Parameters
    ----------
    wanted : Wanted
    release : Release
    settings : ArchiveSettings
    connect : callable
        Opens connections, when first needed.
    cache : SpectraCache or None
    offline : bool
        Use the cache alone.
    progress : bool

    Attributes
    ----------
    account : FetchAccount
        Filled while blocks are read.
    """

    def __init__(
        self,
        wanted: Wanted,
        release: Release,
        settings: ArchiveSettings,
        connect: Callable[[], Connections],
        *,
        cache: SpectraCache | None,
        offline: bool = False,
        progress: bool = False,
    ) -> None:
        self.wanted = wanted
        self.release = release
        self.settings = settings
        self.connect = connect
        self.cache = cache
        self.offline = offline
        self.progress = progress
        self.account = FetchAccount(wanted.source_id)
        self._stop = threading.Event()
        self._read = False
        self._list_sources()

    def _list_sources(self) -> None:
        """Find the distinct ids in order of first appearance, and what is known of them."""
        ids, first, inverse = np.unique(
            self.wanted.source_id, return_index=True, return_inverse=True
        )
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self._ids = ids[order]
        self._which = rank[inverse.reshape(-1)]  # row asked for -> distinct source
        self._status = np.full(len(ids), FetchStatus.PENDING, dtype=np.int8)
        self._status[self._ids <= 0] = FetchStatus.UNKNOWN_ID
        if self.cache is not None:
            asked = np.flatnonzero(self._status == FetchStatus.PENDING)
            self._status[asked] = self.cache.find(self._ids[asked])
            known = self._status[asked] != FetchStatus.PENDING
            self.account.n_cached = int(known.sum())
        todo = np.flatnonzero(self._status == FetchStatus.PENDING)
        if self.offline:
            self._fail(todo, NOT_CACHED)
            todo = todo[:0]
        size = self.settings.chunk_size
        self._chunks = [todo[start : start + size] for start in range(0, len(todo), size)]
        self._chunk_of = np.full(len(ids), -1, dtype=np.int32)
        for number, members in enumerate(self._chunks):
            self._chunk_of[members] = number
        last = np.zeros(len(ids), dtype=np.int64)
        last[self._which] = np.arange(len(self._which))  # the last row that needs each source
        self._last_row = last
        self._held: dict[int, Chunk] = {}
        self._seen = -1  # the last distinct source that a row has needed

    def _fail(self, members: NDArray[np.intp], reason: str) -> None:
        self._status[members] = FetchStatus.FAILED
        self.account.reasons.update(dict.fromkeys(self._ids[members].tolist(), reason))

    def blocks(self, block_size: int) -> Iterator[XPSpectra]:
        """Yield the rows asked for, in order; once.

        Parameters
        ----------
        block_size : int
            Most rows in a block. Blocks are no longer than chunks: one that is exactly a chunk
            need not be copied.

        Yields
        ------
        XPSpectra
            Rows without a spectrum have missing bands and a flag.

        Raises
        ------
        ArchiveError
            If the archive answers nothing at all.
        InputError
            If they have been read already.
        """
        if self._read:
            raise InputError("these blocks have been read already: open the stream again")
        self._read = True
        block_size = min(block_size, self.settings.chunk_size)
        downloads = self._start() if self._chunks else None
        try:
            for start in range(0, len(self._which), block_size):
                which = self._which[start : start + block_size]
                needed = int(self._chunk_of[which].max(initial=-1))
                while downloads is not None and downloads.n_done <= needed:
                    number, chunk = downloads.take()
                    self._receive(number, chunk)
                block = self._assemble(which, slice(start, start + len(which)))
                self._seen = max(self._seen, int(which.max(initial=-1)))
                self._release(start + len(which))
                yield block
        finally:
            if downloads is not None:
                downloads.close()
            if self.cache is not None:
                self.cache.close()
        logger.info("%s", self.account.summary())

    def _start(self) -> Downloads:
        return Downloads(
            [self._ids[members] for members in self._chunks],
            self.connect(),
            self.release,
            self.account,
            cache=self.cache,
            stop=self._stop,
            progress=self.progress,
        )

    def _receive(self, number: int, chunk: Chunk | None) -> None:
        members = self._chunks[number]
        if chunk is None:
            self._fail(members, NOT_ASKED)
            return
        self._status[members] = chunk.status
        self.account.reasons.update(chunk.reasons)
        if chunk.spectra is not None:
            self._held[number] = chunk

    def _release(self, row: int) -> None:
        """Let go of chunks that no later row needs, or that the cache holds."""
        for number in list(self._held):
            members = self._chunks[number]
            passed = (
                int(members[-1]) <= self._seen
                if self._held[number].stored
                else int(self._last_row[members].max()) < row
            )
            if passed:
                del self._held[number]

    def _assemble(self, which: NDArray[np.intp], rows: slice) -> XPSpectra:
        n = len(which)
        distinct, inverse = np.unique(which, return_inverse=True)
        parts, positions = self._gather(distinct)
        status = self._status[which]
        if self.wanted.unmatched is not None:
            status = np.where(
                self.wanted.unmatched[rows], np.int8(FetchStatus.NO_GAIA_SOURCE), status
            )
        self.account.status[rows] = status
        columns = None if self.wanted.columns is None else self.wanted.columns[rows]
        inputs = [f"{self.release.label} archive ({self.settings.gaia_data_url})"]
        spectra = _merge_spectra(parts, positions, len(distinct))
        inverse = inverse.reshape(-1)
        if n != len(distinct) or (inverse != np.arange(n)).any():
            spectra = spectra[inverse]
        return replace(
            spectra,
            source_id=self.wanted.source_id[rows],
            flags=spectra.flags | status_flags(status),
            columns=columns,
            release=self.release.name,
            meta={"inputs": inputs},
        )

    def _gather(self, distinct: NDArray[np.intp]) -> tuple[list[XPSpectra], list[NDArray[np.intp]]]:
        """Collect spectra from chunks in memory and from the cache, with their positions."""
        parts: list[XPSpectra] = []
        positions: list[NDArray[np.intp]] = []
        have = self._status[distinct] == FetchStatus.SPECTRUM
        numbers = self._chunk_of[distinct]
        for number in np.unique(numbers[have]):
            chunk = self._held.get(int(number))
            if chunk is None or chunk.spectra is None:
                continue
            members = self._chunks[int(number)]
            held = members[np.isin(self._ids[members], chunk.spectra.source_id)]
            mine = np.flatnonzero(have & (numbers == number) & np.isin(distinct, held))
            rows = np.searchsorted(held, distinct[mine])
            whole = len(rows) == len(held)
            parts.append(chunk.spectra if whole else chunk.spectra[rows])
            positions.append(mine)
            have[mine] = False
        rest = np.flatnonzero(have)
        if rest.size and self.cache is not None:
            found, lost = self.cache.read(self._ids[distinct[rest]])
            for where, spectra in found:
                parts.append(spectra)
                positions.append(rest[where])
            if lost.size:
                self._recover(distinct[rest[lost]], rest[lost], parts, positions)
        return parts, positions

    def _recover(
        self,
        members: NDArray[np.intp],
        where: NDArray[np.intp],
        parts: list[XPSpectra],
        positions: list[NDArray[np.intp]],
    ) -> None:
        """Ask again for what has gone from the cache since it was looked up."""
        if self.offline:
            self._fail(members, NOT_CACHED)
            return
        connections = self.connect()
        size = self.settings.chunk_size
        for start in range(0, len(members), size):
            some = members[start : start + size]
            chunk = fetch_chunk(connections, self._ids[some], self.release, stop=self._stop)
            self.account.n_requests += chunk.n_requests
            self._status[some] = chunk.status
            self.account.reasons.update(chunk.reasons)
            if chunk.spectra is not None:
                parts.append(chunk.spectra)
                came = chunk.status == FetchStatus.SPECTRUM
                positions.append(where[start : start + size][came])
                if self.cache is not None:
                    self.cache.add(self._ids[some], chunk.status, chunk.spectra)


def _merge_spectra(parts: list[XPSpectra], positions: list[NDArray[np.intp]], n: int) -> XPSpectra:
    """Put parts at their positions among n rows; the others are missing."""
    given = np.concatenate(positions) if positions else np.zeros(0, dtype=np.intp)
    absent = np.setdiff1d(np.arange(n), given)
    every = list(parts)
    if len(absent):
        ids = np.zeros(len(absent), dtype=np.int64)
        missing = BandSpectra.missing(len(absent))
        every.append(XPSpectra(source_id=ids, bp=missing, rp=missing))
    joined = XPSpectra.concatenate(every)
    order = np.concatenate([given, absent])
    if (order == np.arange(n)).all():
        return joined
    rows = np.empty(n, dtype=np.intp)
    rows[order] = np.arange(n)
    return joined[rows]


class Downloads:
    """Fetches chunks of ids in threads, stores them in the cache and hands them out in order.

    The account counts the requests; `close` sets ``stop``, which ends what is under way.
    """

    def __init__(
        self,
        chunks: list[NDArray[np.int64]],
        connections: Connections,
        release: Release,
        account: FetchAccount,
        *,
        cache: SpectraCache | None,
        stop: threading.Event,
        progress: bool,
    ) -> None:
        self.chunks = chunks
        self.connections = connections
        self.release = release
        self.account = account
        self.cache = cache
        self.stop = stop
        self.parallel = connections.settings.parallel
        self.window = self.parallel + 2
        self.pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="gaia_redshift")
        self.futures: deque[Future[Chunk | None]] = deque()
        self.n_sent = 0
        self.n_done = 0
        self.n_failed_in_a_row = 0
        self.any_answer = False
        self.gave_up = self.told = False
        self.lock = threading.Lock()
        self.bar = open_bar(
            total=sum(map(len, chunks)),
            desc=f"{release.label} archive",
            unit=" sources",
            disable=not progress,
        )
        self._send()

    def _send(self) -> None:
        while self.n_sent < len(self.chunks) and self.n_sent - self.n_done < self.window:
            self.futures.append(self.pool.submit(self._work, self.chunks[self.n_sent]))
            self.n_sent += 1

    def _work(self, source_id: NDArray[np.int64]) -> Chunk | None:
        """Fetch and store one chunk, in a thread."""
        if self.gave_up or self.stop.is_set():
            return None
        chunk = Chunk(source_id, np.full(len(source_id), FetchStatus.PENDING, dtype=np.int8))
        if self.cache is not None:  # another process may have fetched them meanwhile
            chunk.status, chunk.stored = self.cache.find(source_id), True
        todo = np.flatnonzero(chunk.status == FetchStatus.PENDING)
        if len(todo):
            status, ids = chunk.status, source_id[todo]
            chunk = fetch_chunk(
                self.connections, ids, self.release, stop=self.stop, on_failure=self._note
            )
            if self.cache is not None:
                chunk.stored = self.cache.add(ids, chunk.status, chunk.spectra)
            status[todo] = chunk.status
            chunk = replace(chunk, source_id=source_id, status=status)
        self._count(chunk)
        return chunk

    def _note(self, failure: TransientError) -> None:
        with self.lock:
            self.bar.set_postfix_str(f"{failure}; trying again"[:60], refresh=True)
            if not self.told:  # where there is no bar, too
                logger.warning("%s; trying again", failure)
            self.told = True

    def _count(self, chunk: Chunk) -> None:
        """Give up on the rest when chunk after chunk gets no answer."""
        with self.lock:
            self.account.n_requests += chunk.n_requests
            if chunk.answered:
                self.any_answer = True
                self.gave_up = False
                self.n_failed_in_a_row = 0
            else:
                self.n_failed_in_a_row += 1
                most = 2 * self.parallel if self.any_answer else self.parallel
                self.gave_up = self.n_failed_in_a_row >= most
            failed = int((chunk.status == FetchStatus.FAILED).sum())
            self.bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
            self.bar.update(len(chunk.source_id))

    def take(self) -> tuple[int, Chunk | None]:
        """Return the next chunk in order; None in place of one that was not asked for.

        ArchiveError tells that nothing was answered at all.
        """
        number = self.n_done
        chunk = self.futures[0].result()
        if chunk is not None and not chunk.answered and not self.any_answer:
            wait(self.futures)  # those under way may still do better
            if not self.any_answer:
                assert chunk.error is not None
                text = str(chunk.error)
                if n := self.account.n_cached:
                    text += f" ({n:,} of the sources are in the cache:"
                    text += " offline=True uses these alone)"
                raise ArchiveError(text)
        self.futures.popleft()
        self.n_done += 1
        self._send()
        return number, chunk

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        self.stop.set()
        for future in self.futures:
            future.cancel()
        self.connections.abort()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.bar.close()
