"""What is no regular file: standard input and pipes of a shell are read once, others refused."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from gaia_redshift.errors import InputError

__all__ = ["STANDARD", "take_file"]

STANDARD = "-"
"""Instead of a file's name: standard input, or output."""
_OPEN = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_copies: dict[str, Path] = {}


def take_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that can be read as often as needed.

    Standard input (``-``) and pipes that a shell has opened (``<(...)``) are copied to a temporary
    file, which goes when the process ends.
    """
    name = os.fspath(path)
    try:
        mode = None if name == STANDARD else os.stat(name).st_mode
    except OSError:
        return Path(path)  # whoever opens it says what is wrong
    if mode is not None and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return Path(path)
    if name in _copies:
        return _copies[name]
    if mode is not None and not (_OPEN.fullmatch(name) and stat.S_ISFIFO(mode)):
        raise InputError(f"{name}: is no regular file; `-` reads from standard input")
    folder = Path(tempfile.mkdtemp(prefix="gaia_redshift-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / "standard-input"
    with copy.open("wb") as out:
        if name == STANDARD:
            shutil.copyfileobj(sys.stdin.buffer, out)
        else:
            with open(name, "rb") as stream:
                shutil.copyfileobj(stream, out)
    _copies[name] = copy
    return copy
