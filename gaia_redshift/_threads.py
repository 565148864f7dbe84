"""Share work among threads, and multiply rows of arrays without those of BLAS."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import repeat
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MOST_THREADS",
    "Crew",
    "as_slice",
    "count_processors",
    "map_ahead",
    "multiply_rows",
    "one_thread",
    "read_ahead",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

MOST_THREADS = 8
"""Of a crew, unless the user says otherwise; more are untried."""
_PRODUCT_ROWS = 32
"""Rows of one product of rows and a matrix."""
_PRODUCT_SIZE = 1 << 18
"""Largest product (rows times columns times terms) that OpenBLAS does not share among threads."""
_alone = ContextVar("alone", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Work in the caller's thread alone: somebody else gives the other processors work."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def map_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, n_threads: int, ahead: int
) -> Generator[_Result, None, None]:
    """Yield ``work(item)`` of each, in order, from other threads; so many wait for being taken.

    Who closes the generator waits for what is being worked on; the rest is not begun. Within
    `one_thread` each is worked on when it is asked for.
    """
    if _alone.get():
        yield from map(work, items)
        return
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="gaia_redshift")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(items: Iterator[_Item], ahead: int) -> Generator[_Item, None, None]:
    """Yield the items of an iterator, which runs in another thread, so many items ahead."""
    end = object()
    for item in map_ahead(lambda _: next(items, end), repeat(None), n_threads=1, ahead=ahead):
        if item is end:
            return
        yield item  # type: ignore[misc]


class Crew:
    """As many threads as there are processors, for all calls together.

    A call works in its own thread, and in as many others as no other call has taken. No threads are
    kept, and there is no lock, which a forked process might find taken.
    """

    def __init__(self) -> None:
        self._most = _count_threads()
        self._places = deque(range(self._most))

    @property
    def n_threads(self) -> int:
        """Threads that a call made here may have."""
        return 1 if _alone.get() else self._most

    def share(self, work: Callable[[int], object], n: int) -> None:
        """Call ``work(0)`` to ``work(n - 1)``, in any order; its first exception ends it all."""
        waiting = iter(range(n))  # next() on it is atomic
        failures: list[BaseException] = []

        def go_on() -> None:
            try:
                for number in waiting:
                    if failures:
                        return
                    work(number)
            except Exception as error:
                failures.append(error)

        places = self._take_places(min(n, self.n_threads))
        helpers = [threading.Thread(target=go_on, daemon=True) for _ in places[1:]]
        try:
            for helper in helpers:
                helper.start()
            go_on()
        except BaseException as error:  # Ctrl-C: the helpers end, too
            failures.append(error)
            raise
        finally:
            for helper in helpers:
                if helper.ident is not None:
                    helper.join()
            self._places.extend(places)
        if failures:
            raise failures[0]

    def _take_places(self, n: int) -> list[int]:
        """Return up to n of the places that no other call has; a call may go on without any."""
        places: list[int] = []
        with suppress(IndexError):
            while len(places) < n:
                places.append(self._places.pop())
        return places


def _count_threads() -> int:
    """The processors that this process may use, eight at most, or as the user says."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return min(count_processors(), MOST_THREADS)


def count_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return consecutive rows as a slice, which costs no copy."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def multiply_rows(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``rows @ matrix``, by products so small that BLAS stays in this thread.

    Its other threads would go on spinning for milliseconds, which the network's need.
    """
    (n, k), m = rows.shape, matrix.shape[1]
    many = n // _PRODUCT_ROWS
    whole = many * _PRODUCT_ROWS
    parts = -(-k // max(_PRODUCT_SIZE // (_PRODUCT_ROWS * m), 1))
    even = k // parts * parts
    factors = matrix[:even].reshape(parts, 1, k // parts, m)
    out = np.empty((n, m))
    for stack, into in (
        (rows[:whole].reshape(many, _PRODUCT_ROWS, k), out[:whole].reshape(many, _PRODUCT_ROWS, m)),
        (rows[None, whole:], out[None, whole:]),
    ):
        if parts == 1:
            np.matmul(stack, matrix, out=into)
            continue
        # All in one call: after each, threads queue for Python's lock.
        split = stack[..., :even].reshape(*stack.shape[:2], parts, k // parts).transpose(2, 0, 1, 3)
        np.sum(np.matmul(split, factors), axis=0, out=into)
        if even < k:
            np.add(into, np.matmul(stack[..., even:], matrix[even:]), out=into)
    return out
