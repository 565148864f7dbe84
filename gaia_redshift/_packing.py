"""gzip and zlib by isal, several times as fast as Python's own, where it can be installed."""

from __future__ import annotations

import zlib as plain_zlib
from pathlib import Path
from typing import IO, Any

try:
    from lzma import LZMAError
except ImportError:  # a Python built without it, which opens no such zips
    LZMAError = EOFError  # type: ignore[assignment,misc]

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

__all__ = ["DAMAGE", "GZIP", "LEVEL", "gzip", "open_unpacked", "zlib"]

DAMAGE: Any = (EOFError, plain_zlib.error, zlib.error, LZMAError)
"""What packed bytes that are damaged raise, beside OSError."""
GZIP = b"\x1f\x8b"
"""How what is packed with gzip begins."""


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its first bytes say that it is packed."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[no-any-return]
