"""gzip and zlib by isal, several times as fast as Python's own, where it can be installed."""

from __future__ import annotations

import zlib as plain_zlib
from typing import Any

gzip: Any
zlib: Any
try:
    from isal import igzip as gzip
    from isal import isal_zlib as zlib

    LEVEL = 3
except ImportError:
    import gzip
    import zlib

    LEVEL = 6

__all__ = ["DAMAGE", "LEVEL", "gzip", "zlib"]

DAMAGE: Any = (EOFError, plain_zlib.error, zlib.error)
"""What packed bytes that are damaged raise, beside OSError."""
