"""Chunks fetched in parallel, handed out in the order asked for, in blocks of bounded memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift.archive.account import FetchAccount, FetchStatus, status_flags
from gaia_redshift.archive.cache import SpectraCache
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.datalink import Chunk, fetch_chunk
from gaia_redshift.archive.failures import TransientError
from gaia_redshift.archive.releases import Release
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.sources import AskedSources
from gaia_redshift.errors import ArchiveError, InputError
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["FetchStream"]

logger = logging.getLogger(__name__)

NOT_CACHED = "it is not in the cache, and the archive is not asked when offline"
NOT_ASKED = "the archive had stopped answering before it was asked for"


class FetchStream:
    """The spectra of the sources asked for, block by block.

    Parameters
    ----------
    asked : AskedSources
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
        asked: AskedSources,
        release: Release,
        settings: ArchiveSettings,
        connect: Callable[[], Connections],
        *,
        cache: SpectraCache | None,
        offline: bool = False,
        progress: bool = False,
    ) -> None:
        self.asked = asked
        self.release = release
        self.settings = settings
        self.connect = connect
        self.cache = cache
        self.offline = offline
        self.progress = progress
        self.account = FetchAccount(asked.source_id)
        self._stop = threading.Event()
        self._read = False
        self._list_sources()

    def _list_sources(self) -> None:
        """Find the distinct ids in order of first appearance, and what is known of them."""
        ids, first, inverse = np.unique(
            self.asked.source_id, return_index=True, return_inverse=True
        )
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self._ids = ids[order]
        self._which = rank[inverse.reshape(-1)]  # row asked for -> distinct source
        self._status = np.full(len(ids), FetchStatus.PENDING, dtype=np.int8)
        self._status[self._ids <= 0] = FetchStatus.UNKNOWN_ID
        if self.cache is not None:
            unknown = np.flatnonzero(self._status == FetchStatus.PENDING)
            self._status[unknown] = self.cache.find(self._ids[unknown])
            self.account.n_cached = int((self._status[unknown] != FetchStatus.PENDING).sum())
        todo = np.flatnonzero(self._status == FetchStatus.PENDING)
        if self.offline:
            self._fail(todo, NOT_CACHED)
            todo = todo[:0]
        size = self.settings.chunk_size
        self._chunks = [todo[start : start + size] for start in range(0, len(todo), size)]
        self._chunk_of = np.full(len(ids), -1, dtype=np.int32)
        for number, members in enumerate(self._chunks):
            self._chunk_of[members] = number
        self._held: dict[int, Chunk] = {}
        last = np.zeros(len(self._chunks) + 1, dtype=np.intp)  # the last is of those in no chunk
        np.maximum.at(last, self._chunk_of[self._which], np.arange(len(self._which)))
        self._last_row = last

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
        downloads = _Downloads(self) if self._chunks else None
        newest = -1
        try:
            for start in range(0, len(self._which), block_size):
                which = self._which[start : start + block_size]
                needed = int(self._chunk_of[which].max(initial=-1))
                while downloads is not None and newest < needed:
                    newest += 1
                    self._receive(newest, downloads.take())
                rows = slice(start, start + len(which))
                yield self._assemble(which, rows)
                self._release(newest, rows.stop)
        finally:
            if downloads is not None:
                downloads.close()
        logger.info("%s", self.account.summary())

    def _receive(self, number: int, chunk: Chunk) -> None:
        self._status[self._chunks[number]] = chunk.status
        self.account.reasons.update(chunk.reasons)
        if chunk.spectra is not None:
            self._held[number] = chunk

    def _release(self, newest: int, row: int) -> None:
        """Let go of chunks that no later row needs, or that the cache holds and were read."""
        self._held = {
            number: chunk
            for number, chunk in self._held.items()
            if self._last_row[number] >= row and (number == newest or not chunk.stored)
        }

    def _assemble(self, which: NDArray[np.intp], rows: slice) -> XPSpectra:
        """Return the block of these distinct sources (n,), which are those of the rows."""
        distinct, inverse = np.unique(which, return_inverse=True)
        parts, positions = self._gather(distinct)
        n_found = sum(map(len, parts))
        place = np.full(len(distinct), n_found)  # a row of nothing follows those found
        if parts:
            place[np.concatenate(positions)] = np.arange(n_found)
        if n_found < len(distinct):
            nothing = BandSpectra.missing(1)
            parts.append(XPSpectra(np.zeros(1, dtype=np.int64), nothing, nothing))
        spectra = XPSpectra.concatenate(parts)
        order = place[inverse.reshape(-1)]
        if not np.array_equal(order, np.arange(len(spectra))):
            spectra = spectra[order]
        status = self._status[which]
        if self.asked.unmatched is not None:
            status[self.asked.unmatched[rows]] = FetchStatus.NO_GAIA_SOURCE
        self.account.status[rows] = status
        return replace(
            spectra,
            source_id=self.asked.source_id[rows],
            flags=spectra.flags | status_flags(status),
            columns=None if self.asked.columns is None else self.asked.columns[rows],
            release=self.release.name,
            meta={"inputs": [f"{self.release.label} archive ({self.settings.gaia_data_url})"]},
        )

    def _gather(self, distinct: NDArray[np.intp]) -> tuple[list[XPSpectra], list[NDArray[np.intp]]]:
        """Collect spectra from chunks in memory and from the cache, with their positions."""
        parts: list[XPSpectra] = []
        positions: list[NDArray[np.intp]] = []
        have = self._status[distinct] == FetchStatus.SPECTRUM
        numbers = self._chunk_of[distinct]
        for number in np.unique(numbers[have]).tolist():
            chunk = self._held.get(number)
            if chunk is None or chunk.spectra is None:
                continue
            members = self._chunks[number]
            held = members[np.isin(self._ids[members], chunk.spectra.source_id)]
            mine = np.flatnonzero(have & (numbers == number) & np.isin(distinct, held))
            rows = np.searchsorted(held, distinct[mine])
            parts.append(chunk.spectra if len(rows) == len(held) else chunk.spectra[rows])
            positions.append(mine)
            have[mine] = False
        rest = np.flatnonzero(have)
        if rest.size and self.cache is not None:
            found, lost = self.cache.read(self._ids[distinct[rest]])
            parts += [spectra for _, spectra in found]
            positions += [rest[where] for where, _ in found]
            for where in np.array_split(rest[lost], -(-len(lost) // self.settings.chunk_size) or 1):
                spectra = self._recover(distinct[where])
                if spectra is not None:
                    parts.append(spectra)
                    positions.append(where[self._status[distinct[where]] == FetchStatus.SPECTRUM])
        return parts, positions

    def _recover(self, members: NDArray[np.intp]) -> XPSpectra | None:
        """Ask again for what has gone from the cache since it was looked up."""
        if self.offline:
            self._fail(members, NOT_CACHED)
        if self.offline or not len(members):
            return None
        chunk = fetch_chunk(self.connect(), self._ids[members], self.release, stop=self._stop)
        self.account.n_requests += chunk.n_requests
        self._status[members] = chunk.status
        self.account.reasons.update(chunk.reasons)
        if self.cache is not None:
            self.cache.add(self._ids[members], chunk.status, chunk.spectra)
        return chunk.spectra


class _Downloads:
    """Fetches the chunks of a stream in threads, stores them in the cache, hands them out in order.

    The account counts the requests.
    """

    def __init__(self, stream: FetchStream) -> None:
        self.stream, self.cache, self.stop = stream, stream.cache, stream._stop
        self.connections = stream.connect()
        self.n_failed_in_a_row = 0
        self.any_answer = self.gave_up = self.told = False
        self.lock = threading.Lock()
        self.bar = open_bar(
            total=sum(map(len, stream._chunks)),
            desc=f"{stream.release.label} archive",
            unit=" sources",
            disable=not stream.progress,
        )
        self.parallel = stream.settings.parallel
        self.pool = ThreadPoolExecutor(self.parallel, thread_name_prefix="gaia_redshift")
        self.waiting = iter(stream._chunks)
        self.futures: deque[Future[Chunk]] = deque()
        self._send(self.parallel + 2)

    def _send(self, n: int) -> None:
        for members in islice(self.waiting, n):
            self.futures.append(self.pool.submit(self._work, self.stream._ids[members]))

    def _work(self, source_id: NDArray[np.int64]) -> Chunk:
        """Fetch and store one chunk, in a thread."""
        if self.gave_up or self.stop.is_set():
            failed = np.full(len(source_id), FetchStatus.FAILED, dtype=np.int8)
            return Chunk(source_id, failed, reasons=dict.fromkeys(source_id.tolist(), NOT_ASKED))
        chunk = Chunk(source_id, np.full(len(source_id), FetchStatus.PENDING, dtype=np.int8))
        if self.cache is not None:  # another process may have fetched them meanwhile
            chunk.status, chunk.stored = self.cache.find(source_id), True
        todo = np.flatnonzero(chunk.status == FetchStatus.PENDING)
        if len(todo):
            status, ids = chunk.status, source_id[todo]
            chunk = fetch_chunk(
                self.connections, ids, self.stream.release, stop=self.stop, on_failure=self._note
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
            self.stream.account.n_requests += chunk.n_requests
            self.any_answer |= chunk.answered
            self.n_failed_in_a_row = 0 if chunk.answered else self.n_failed_in_a_row + 1
            self.gave_up = self.n_failed_in_a_row >= self.parallel * (1 + self.any_answer)
            failed = int((chunk.status == FetchStatus.FAILED).sum())
            self.bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
            self.bar.update(len(chunk.source_id))

    def take(self) -> Chunk:
        """Return the next chunk in order; ArchiveError tells that nothing was answered at all."""
        chunk = self.futures[0].result()
        if not (chunk.answered or self.any_answer):
            wait(self.futures)  # those under way may still do better
            if not self.any_answer:
                text = str(chunk.error)
                if n := self.stream.account.n_cached:
                    text += f" ({n:,} of the sources are in the cache:"
                    text += " offline=True uses these alone)"
                raise ArchiveError(text)
        self.futures.popleft()
        self._send(1)
        return chunk

    def close(self) -> None:
        """Stop what is under way and wait for the threads."""
        self.stop.set()
        self.connections.abort()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.bar.close()
