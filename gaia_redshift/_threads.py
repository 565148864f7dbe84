"""Share numbered pieces of work among threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

__all__ = ["Crew", "one_thread"]

_MOST = 8
"""Threads at most; more are untried."""
_alone = ContextVar("alone", default=False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Work in the caller's thread alone: somebody else gives the other processors work."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


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
    """The processors that this process may use, or as the user says."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST)
    return min(os.cpu_count() or 1, _MOST)
