"""Keep the user's process as it was: NumPy's print options, warning filters, matplotlib's settings.

Importing GaiaXPy sets NumPy's print options to those of version 1.21, silences every
``RuntimeWarning`` and makes matplotlib write all text with LaTeX, for good; other imports add
warning filters of their own. Public functions run inside `preserve_settings`, and every use of
GaiaXPy inside `quiet_gaiaxpy`.
"""

from __future__ import annotations

import importlib
import io
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from typing import Any

import numpy as np

__all__ = [
    "Shared",
    "defer_interrupt",
    "ignore_warnings",
    "import_tables",
    "preserve_settings",
    "quiet_gaiaxpy",
    "silent_output",
]


class Shared:
    """A change of the process, made by the first of several threads and undone by the last.

    ``warnings.catch_warnings`` and ``redirect_stdout`` alone put back what they found, and where
    threads overlap that is another thread's change: a filter that silences everything, or an
    output that goes nowhere, could then stay for good.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._make = make
        self._change: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._change = self._make()
                self._change.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._change.__exit__(None, None, None)


_filters = Shared(warnings.catch_warnings)
silent_output = Shared(lambda: redirect_stdout(io.StringIO()))
"""``with silent_output:`` nothing that is printed is seen, for libraries that print."""
_filters_lock = threading.Lock()
_gaiaxpy_lock = threading.RLock()


@contextmanager
def preserve_settings() -> Iterator[None]:
    """Restore NumPy's print options and the warning filters on exit.

    A context manager, and a decorator: ``@preserve_settings()`` above a public function (not above
    a generator, whose body runs later).
    """
    options = np.get_printoptions()
    with _filters, warnings.catch_warnings():
        try:
            yield
        finally:
            if np.get_printoptions() != options:
                np.set_printoptions(**options)


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Ignore what libraries warn of; warnings of this package pass as they did.

    Filters hold for all threads, and another one may just have something to tell the user. They are
    put in and taken out one by one: to put back a list of filters would undo what others changed.
    """
    from gaia_redshift.errors import GaiaRedshiftWarning as Ours

    with _filters_lock:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        passing = [
            (action, message, Ours, module, line)
            for action, message, kind, module, line in filters
            if issubclass(Ours, kind)
        ]
        added = [*passing, ("default", None, Ours, None, 0), ("ignore", None, Warning, None, 0)]
        filters[:0] = added
    try:
        yield
    finally:
        mine = set(map(id, added))
        with _filters_lock:
            for each in (filters, warnings.filters):  # others may have put a copy in its place
                each[:] = [one for one in each if id(one) not in mine]  # type: ignore[index]


@contextmanager
def defer_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait for the end: it can crash the process while compiled modules are imported."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *about: came.append(about))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


def import_tables() -> None:
    """Import astropy's tables whole: after half of it no later try succeeds in the process."""
    if "astropy.table" not in sys.modules:
        with defer_interrupt():
            importlib.import_module("astropy.table")


@contextmanager
def quiet_gaiaxpy() -> Iterator[None]:
    """Import and call GaiaXPy inside this: it says nothing, and settings are restored.

    One thread at a time: two that import it at once wait for each other for ever, and what they
    turn away of the output might not come back.

    GaiaXPy is imported before its output is turned away: it binds ``sys.stdout`` when imported, so
    that a redirection then would silence the progress bars of the user's own calls for good.
    """
    with _gaiaxpy_lock, preserve_settings(), _preserve_plot_settings(), ignore_warnings():
        with defer_interrupt():
            importlib.import_module("gaiaxpy")  # waits where a thread of the user imports it
        with silent_output:
            yield


def _preserve_plot_settings() -> AbstractContextManager[None]:
    if "gaiaxpy" in sys.modules:  # its import is what changes them
        return nullcontext()
    from matplotlib import rc_context

    return rc_context()
