"""Keep the user's process as it was: NumPy's print options, warning filters, matplotlib's settings.

Importing GaiaXPy sets NumPy's print options to those of version 1.21, silences every
``RuntimeWarning`` and makes matplotlib write all text with LaTeX, for good; other imports add
warning filters of their own. Public functions run inside `preserve_settings`, and every use of
GaiaXPy inside `quiet_gaiaxpy`.
"""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout

import numpy as np

__all__ = ["preserve_settings", "quiet_gaiaxpy"]


@contextmanager
def preserve_settings() -> Iterator[None]:
    """Restore NumPy's print options and the warning filters on exit.

    A context manager, and a decorator: ``@preserve_settings()`` above a public function (not above
    a generator, whose body runs later).
    """
    options = np.get_printoptions()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            if np.get_printoptions() != options:
                np.set_printoptions(**options)


@contextmanager
def quiet_gaiaxpy() -> Iterator[None]:
    """Import and call GaiaXPy inside this: it says nothing, and settings are restored.

    GaiaXPy is imported before its output is turned away: it binds ``sys.stdout`` when imported, so
    that a redirection then would silence the progress bars of the user's own calls for good.
    """
    with preserve_settings(), _preserve_plot_settings():
        warnings.simplefilter("ignore")
        importlib.import_module("gaiaxpy")
        with redirect_stdout(io.StringIO()):
            yield


def _preserve_plot_settings() -> AbstractContextManager[None]:
    if "gaiaxpy" in sys.modules:  # its import is what changes them
        return nullcontext()
    from matplotlib import rc_context

    return rc_context()
