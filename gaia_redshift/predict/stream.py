"""Read and predict block by block: reading runs ahead in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.predict.blocks import Findings, predict_block
from gaia_redshift.predict.table import predict_rows, read_blocks
from gaia_redshift.readers.content import ReadMeter
from gaia_redshift.readers.sources import is_for_archive

if TYPE_CHECKING:
    from gaia_redshift.predict.progress import Progress
    from gaia_redshift.predict.settings import Settings
    from gaia_redshift.spectra import XPSpectra
    from gaia_redshift.tables import PredictedRows

__all__ = ["Step", "iter_steps"]

logger = logging.getLogger(__name__)

READ_AHEAD = 2
"""Blocks that wait for the network."""
WORKERS = 2
"""Blocks that are sampled and predicted at once."""


@dataclass(frozen=True)
class Step:
    """What has become of one block, or of one input, by its number from 0.

    ``rows`` are the predictions of the input's next rows; ``failure`` says why it could not be
    read: its rows so far then do not count. ``ended``: the input is done, or has failed.
    """

    index: int
    rows: PredictedRows | None = None
    failure: str | None = None
    ended: bool = False


@dataclass(frozen=True)
class _Read:
    """What the reading thread hands over: a block, or the end or the failure of an input."""

    index: int
    block: XPSpectra | None = None
    fetch: Any = None
    failure: str | None = None
    crash: BaseException | None = None


class _Reader:
    """Reads the inputs, one after the other, in a thread of its own."""

    def __init__(
        self,
        sources: Sequence[Any],
        settings: Settings,
        start: tuple[int, int],
        progress: Progress,
    ) -> None:
        self._sources, self._settings, self._start = sources, settings, start
        self._progress = progress
        self._queue: queue.Queue[_Read | None] = queue.Queue(maxsize=READ_AHEAD)
        self._stop = threading.Event()
        self._given_up: set[int] = set()
        self._thread = threading.Thread(target=self._work, name="gaia_redshift-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_Read]:
        while (item := self._queue.get()) is not None:
            if item.crash is not None:
                raise item.crash
            yield item

    def give_up(self, index: int) -> None:
        """Read no more of this input."""
        self._given_up.add(index)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _put(self, item: _Read | None) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return

    def _work(self) -> None:
        first, row = self._start
        try:
            for index in range(first, len(self._sources)):
                if self._stop.is_set():
                    return
                self._read(index, row if index == first else 0)
            self._put(None)
        except BaseException as error:
            self._put(_Read(-1, crash=error))

    def _read(self, index: int, start: int) -> None:
        source = self._sources[index]
        if not isinstance(source, Path) and is_for_archive(source):
            self._put(_Read(index, fetch=source))
            self._put(_Read(index))
            return
        meter = ReadMeter()
        self._progress.start_reading(index, meter, start)
        try:
            for block in read_blocks(source, self._settings, start=start, meter=meter):
                self._progress.note_read(len(block))
                self._put(_Read(index, block=block))
                if self._stop.is_set() or index in self._given_up:
                    return
        except InputError as error:
            self._put(_Read(index, failure=str(error)))
        else:
            self._put(_Read(index))


def iter_steps(
    sources: Sequence[Any],
    settings: Settings,
    *,
    start: tuple[int, int] = (0, 0),
    progress: Progress,
) -> Generator[Step, None, None]:
    """Predict the inputs in order, a block at a time, from an input's number and row on.

    Memory is bounded by the size of a block: some are read ahead, and some are worked on. After an
    input's last predictions comes a step that ends it.
    """
    from gaia_redshift.model.registry import RedshiftModel

    # Of other models it is not known whether they may be used from several threads.
    workers = WORKERS if isinstance(settings.model, RedshiftModel) else 1
    failed: set[int] = set()
    reader = _Reader(sources, settings, start, progress)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="gaia_redshift-predict")
    waiting: deque[tuple[_Read, Future[tuple[PredictedRows, Findings]] | None]] = deque()

    def predict(item: _Read) -> tuple[PredictedRows, Findings]:
        findings = Findings()
        if item.block is not None:
            return predict_block(item.block, settings, findings), findings
        return predict_rows(item.fetch, settings, findings, progress=progress.shown), findings

    def settle() -> Iterator[Step]:
        item, future = waiting.popleft()
        if item.index in failed:
            return
        failure = item.failure
        if future is not None:
            try:
                rows, findings = future.result()
                findings.warn()
                yield Step(item.index, rows)
                return
            except InputError as error:
                if item.fetch is not None:
                    raise
                failure = str(error)
                reader.give_up(item.index)
        if failure is not None:
            failed.add(item.index)
        else:
            logger.info("%s: read and predicted", _name(sources[item.index]))
        yield Step(item.index, failure=failure, ended=True)

    try:
        with preserve_settings(), _warn_once():
            for item in reader:
                future = None
                if item.index not in failed and (item.block is not None or item.fetch is not None):
                    future = pool.submit(predict, item)
                waiting.append((item, future))
                while len(waiting) > workers or (waiting and waiting[0][1] is None):
                    yield from settle()
            while waiting:
                yield from settle()
    finally:
        reader.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


@contextmanager
def _warn_once() -> Iterator[None]:
    """Show each warning once, however many blocks it is true of."""
    seen: set[str] = set()
    shown = warnings.showwarning

    def show(message: Warning | str, *about: Any, **more: Any) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            shown(message, *about, **more)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
