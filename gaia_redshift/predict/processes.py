"""Share files among processes; what becomes of them comes in their order.

A worker predicts whole files, one after the other, in one thread each, by the same `iter_steps` as
a process that is alone, and hands on each step as it comes, with the warnings and the log that go
with it. Steps of the file whose turn it is are passed on at once; those of files behind it wait in
memory, from a megabyte on in a file. So nobody waits for a long file, and memory is bounded: rows
of redshifts are small beside spectra, and lie on the disk anyway until a run ends. A worker waits
only where it is `AHEAD` files in front, since a kill loses what has not had its turn.
"""

from __future__ import annotations

import logging
import multiprocessing
import operator
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._threads import count_processors, one_thread
from gaia_redshift.errors import GaiaRedshiftError, InputError
from gaia_redshift.predict.progress import Progress, measure_size
from gaia_redshift.predict.stream import Step, iter_steps, warn_once
from gaia_redshift.sampling.bases import adopt_basis_sets, basis_sets

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from gaia_redshift.predict.settings import Settings

__all__ = ["settle_processes", "share_steps"]

AHEAD = 64
"""Inputs that may be begun behind the one whose turn it is."""
IN_MEMORY = 1 << 20
"""Bytes of an input's steps that wait in memory; more of them wait in a file."""
SMALL = 1 << 18
"""Bytes of files that are given together: to ask anew for each of many small ones takes time."""
MOST_EACH = 16
"""Processes for each processor; more would only take memory."""
_GRACE = 2.0
"""Seconds in which a worker may end by itself."""
_NAME = "gaia_redshift-worker"
_Task = tuple[int, Path, int]


def settle_processes(processes: int, settings: Settings) -> int:
    """Return how many processes are to predict; 0 stands for as many as there are processors."""
    if multiprocessing.current_process().name.startswith(_NAME):
        sys.exit(1)  # a script that begins anew in a worker: who started it says so
    try:
        n = operator.index(processes)
    except TypeError:
        n = -1
    if n < 0 or isinstance(processes, bool):
        raise InputError(
            "processes must be 1 or more, or 0 for as many as there are processors, not"
            f" {processes!r}"
        )
    if n != 1 and multiprocessing.current_process().daemon:
        raise InputError("a process that is itself a worker starts no others: use processes=1")
    n_processors = count_processors()
    if n > MOST_EACH * n_processors:
        raise InputError(f"processes={n} are too many for {n_processors} processors")
    if n != 1 and getattr(settings.model, "device", "cpu") == "gpu":
        raise InputError("several processes do not share a GPU: processes=1, or device='cpu'")
    return n or n_processors


def share_steps(
    sources: Sequence[Any],
    settings: Settings,
    *,
    start: tuple[int, int] = (0, 0),
    progress: Progress,
    processes: int,
    folder: Path | None = None,
) -> Generator[Step, None, None]:
    """Do as `iter_steps`, by so many processes where there are several files.

    What is no file is read or fetched here, in its turn. ``folder`` is where steps may wait.
    """
    files = [i for i in range(start[0], len(sources)) if isinstance(sources[i], Path)]
    n = min(processes, len(files))
    if n < 2:
        yield from iter_steps(sources, settings, start=start, progress=progress)
        return
    rows = {start[0]: start[1]}
    tasks = deque((i, sources[i], rows.get(i, 0)) for i in files)
    with warn_once(), closing(_Crowd(n, settings, tasks, progress, folder)) as crowd:
        for index in range(start[0], len(sources)):
            if isinstance(sources[index], Path):
                yield from crowd.take_turn(index)
            else:
                here = (index, rows.get(index, 0))
                yield from iter_steps(sources[: index + 1], settings, start=here, progress=progress)


@dataclass
class _Worker:
    """A process, the pipe to it, and its tasks, on the first of which it works.

    A task is an input's number, the input, and how many rows of it were done before.
    """

    process: BaseProcess
    pipe: Connection
    tasks: deque[_Task] = field(default_factory=deque)
    answered: bool = False


class _Queue:
    """Steps that wait for their turn, pickled: beyond `IN_MEMORY` bytes in a file."""

    def __init__(self, folder: Path | None) -> None:
        where = None if folder is None else str(folder)
        self._file: Any = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=where)  # noqa: SIM115
        self._taken = self._end = 0
        self.ended = False
        self.close = self._file.close

    def put(self, data: bytes) -> None:
        """Add a step."""
        self._file.seek(self._end)
        self._end += self._file.write(data)

    def take(self) -> Iterator[Any]:
        """Take the steps that are there, also those that come meanwhile; it is then empty."""
        while self._taken < self._end:
            self._file.seek(self._taken)
            item = pickle.load(self._file)
            self._taken = self._file.tell()
            yield item
        self._file.seek(0)
        self._file.truncate()
        self._taken = self._end = 0


class _Crowd:
    """Workers that predict files, begun in order."""

    def __init__(
        self,
        n: int,
        settings: Settings,
        tasks: deque[_Task],
        progress: Progress,
        folder: Path | None,
    ) -> None:
        self._tasks, self._progress = tasks, progress
        self._turn = tasks[0][0]
        self._queues: defaultdict[int, _Queue] = defaultdict(lambda: _Queue(folder))
        self._workers: list[_Worker] = []
        level = logging.getLogger("gaia_redshift").getEffectiveLevel()
        try:
            packed = pickle.dumps((settings, basis_sets(), level))
        except Exception as error:  # pickle raises anything
            raise _refuse_settings(error) from None
        try:
            for number in range(n):
                self._workers.append(_start_worker(number + 1))
            for worker in self._workers:
                with self._watch(worker):
                    worker.pipe.send_bytes(packed)
        except BaseException:
            self.close()
            raise

    def take_turn(self, index: int) -> Iterator[Step]:
        """Yield the steps of an input, as they come."""
        self._turn = index
        queue, ended = self._queues[index], False
        while not ended:
            self._give_work()
            ended = queue.ended  # before the look: what came with the end is there
            for item, words in queue.take():
                _repeat(words)
                if isinstance(item, Exception):
                    raise item
                yield replace(item, index=index)
                self._receive(timeout=0)  # nobody is to wait for what is done with a step
            if not queue.ended:
                self._receive()
        self._queues.pop(index).close()

    def close(self) -> None:
        """Let the workers end, and end those that do not."""
        for worker in self._workers:
            worker.pipe.close()
        end = time.monotonic() + _GRACE
        for worker in self._workers:
            worker.process.join(max(end - time.monotonic(), 0))
        for worker in self._workers:
            worker.process.terminate()
            worker.process.join()
        for queue in self._queues.values():
            queue.close()

    def _give_work(self) -> None:
        """Give who has none the next file, with those behind it as long as they are small."""
        for worker in self._workers:
            if worker.tasks:
                continue
            size = -1
            while size < SMALL and self._tasks and self._tasks[0][0] <= self._turn + AHEAD:
                worker.tasks.append(self._tasks.popleft())
                size += measure_size(worker.tasks[-1][1])
            if worker.tasks:
                with self._watch(worker):
                    worker.pipe.send(list(worker.tasks))

    def _receive(self, timeout: float | None = None) -> None:
        """Wait for steps, and put them where they wait."""
        ready = wait([worker.pipe for worker in self._workers], timeout)
        for worker in self._workers:
            if worker.pipe not in ready:
                continue
            with self._watch(worker):
                read, n_rows, ended = worker.pipe.recv()
                data = worker.pipe.recv_bytes()
            index = worker.tasks[0][0]
            if read is not None:
                self._progress.follow(index, *read)
            self._progress.update(n_rows)
            self._queues[index].put(data)
            worker.answered = True
            if ended:
                self._queues[index].ended = True
                worker.tasks.popleft()

    @contextmanager
    def _watch(self, worker: _Worker) -> Iterator[None]:
        """Say what has happened where a worker is there no more."""
        try:
            yield
        except (EOFError, OSError):
            worker.process.join(_GRACE)
            code = worker.process.exitcode
            if not worker.answered and code == 1:
                raise GaiaRedshiftError(
                    f"processes={len(self._workers)}: a process ended before it began; each imports"
                    " the script, which must do its work under `if __name__ == '__main__':`"
                ) from None
            how = f"killed by signal {-code}" if code and code < 0 else f"exit code {code}"
            source = worker.tasks[0][1] if worker.tasks else "nothing now"
            raise GaiaRedshiftError(
                f"the process that predicted {source} has ended ({how}; was there too little"
                " memory?): what was written is kept; resume=True (--resume) goes on, with fewer"
                " processes if need be"
            ) from None


def _start_worker(number: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with closing(theirs):
        process = context.Process(
            target=_work, args=(theirs,), name=f"{_NAME}-{number}", daemon=True
        )
        mask = getattr(signal, "pthread_sigmask", None)
        before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None
        try:  # Ctrl-C is for this process, which ends the others: they never hear of it
            process.start()
        finally:
            if mask:
                mask(signal.SIG_SETMASK, before)
    return _Worker(process, ours)


def _repeat(words: Sequence[Any]) -> None:
    """Warn and log here as a worker did."""
    for word in words:
        if isinstance(word, logging.LogRecord):
            logging.getLogger(word.name).handle(word)
        else:
            warnings.warn_explicit(*word)


# --- in a worker ---------------------------------------------------------------------------------


class _Recorder(logging.Handler):
    """Keeps what is logged and warned of."""

    def __init__(self) -> None:
        super().__init__()
        self._words: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self._words.append(record)

    def note_warning(self, message: Any, category: Any, file: str, line: int, *_: Any) -> None:
        """Take the place of ``warnings.showwarning``."""
        self._words.append((_as_picklable(message), category, file, line))

    def take(self) -> list[Any]:
        """Return what has come since the last time."""
        words, self._words = self._words, []
        return words


def _work(pipe: Connection) -> None:
    """Predict the inputs that come through a pipe, until nobody is at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # for libraries that begin later
    recorder = _Recorder()
    package = logging.getLogger("gaia_redshift")
    package.addHandler(recorder)
    package.propagate = False
    warnings.simplefilter("always")
    warnings.showwarning = recorder.note_warning  # type: ignore[assignment]
    with suppress(EOFError, OSError), one_thread():
        packed = pipe.recv_bytes()
        while True:
            for _, source, row in pipe.recv():
                progress = Progress([source], shown=False)
                for item in _predict_file(source, row, packed, progress):
                    rows = getattr(item, "rows", None)
                    n_rows, ended = 0 if rows is None else len(rows), getattr(item, "ended", True)
                    pipe.send((progress.read.get(0), n_rows, ended))
                    pipe.send_bytes(pickle.dumps((item, recorder.take())))


def _predict_file(
    source: Path, row: int, packed: bytes, progress: Progress
) -> Iterator[Step | Exception]:
    """Yield the steps of a file, and what ended them."""
    try:
        settings = _unpack(packed)
        yield from iter_steps([source], settings, start=(0, row), progress=progress)
    except Exception as error:
        if not isinstance(error, GaiaRedshiftError):
            error.add_note("".join(traceback.format_exception(error)))
        yield _as_picklable(error)


def _as_picklable(told: Exception) -> Exception:
    """Return a warning or an error as another process can have it: else its words alone."""
    with suppress(Exception):
        pickle.loads(pickle.dumps(told))
        return told
    kind = UserWarning if isinstance(told, Warning) else GaiaRedshiftError
    return kind(f"{type(told).__name__}: {told}")


@lru_cache(maxsize=1)
def _unpack(packed: bytes) -> Settings:
    """Make of a process what the one that started it is."""
    try:
        settings, sets, level = pickle.loads(packed)
    except (AttributeError, ImportError) as error:  # a notebook's
        raise _refuse_settings(error) from None
    adopt_basis_sets(sets)
    logging.getLogger("gaia_redshift").setLevel(level)
    return settings  # type: ignore[no-any-return]


def _refuse_settings(error: Exception) -> InputError:
    return InputError(
        f"the model or an option cannot be handed to other processes ({error}): define it in a"
        " module of its own, or use processes=1"
    )
