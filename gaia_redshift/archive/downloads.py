"""Chunks on their way: a few at a time, stored in the cache as they come."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._progress import open_bar
from gaia_redshift.archive.account import FetchAccount, FetchStatus
from gaia_redshift.archive.cache import SpectraCache
from gaia_redshift.archive.chunks import Chunk, fetch_chunk
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import TransientError
from gaia_redshift.archive.releases import Release
from gaia_redshift.errors import ArchiveError

__all__ = ["Downloads"]

logger = logging.getLogger(__name__)


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
