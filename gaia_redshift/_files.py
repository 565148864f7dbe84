"""Files that appear whole or not at all, packed ones, and words as a terminal may show them.

gzip and zlib are isal's, several times as fast as Python's own, where it can be installed.
"""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import time
import zlib as plain_zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gaia_redshift.errors import InputError

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

__all__ = [
    "DAMAGE",
    "GZIP",
    "LEVEL",
    "check_apart",
    "check_target",
    "escape_controls",
    "expand_path",
    "gzip",
    "is_utf8",
    "one_line",
    "open_target",
    "open_unpacked",
    "removed_if_empty",
    "same_file",
    "sweep_parts",
    "write_text",
    "written_whole",
    "zlib",
]

DAMAGE: Any = (EOFError, plain_zlib.error, zlib.error, LZMAError)
"""What packed bytes that are damaged raise, beside OSError."""
GZIP = b"\x1f\x8b"
"""How what is packed with gzip begins."""
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What a terminal obeys, and what XML and ECSV cannot hold; tabs and ends of lines are neither."""


def escape_controls(text: str) -> str:
    r"""Return text with control characters shown, ``\x1b``, so that nothing obeys them."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def is_utf8(name: str) -> bool:
    """Tell whether a name of a file is text that every library can be given."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(error: BaseException, longest: int = 200) -> str:
    """Return the reason that an exception gives, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return escape_controls(" ".join(str(error).split())[:longest]) or type(error).__name__


def expand_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` opened; one that names no user's home (``~$a.csv``) as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_target(target: Path, overwrite: bool) -> None:
    """Find out, before any work, whether a file may be written there, over another if asked."""
    if not is_utf8(str(target)):
        raise InputError(f"{escape_controls(str(target))}: its name is not UTF-8: choose another")
    if target.exists() and not overwrite:
        raise InputError(
            f"{target} exists already: choose another name, or --overwrite (overwrite=True)"
        )
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write {target}: no permission to write in {target.parent}")


def check_apart(target: Path, sources: Iterable[Any]) -> None:
    """Refuse to write where an input lies."""
    for source in sources:
        if isinstance(source, str | os.PathLike) and same_file(source, target):
            raise InputError(f"{target} is one of the inputs: choose another name for the output")


def same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Tell whether two paths lead to one file that is there."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


def sweep_parts(target: Path) -> None:
    """Remove what killed writers of this file left beside it, a day ago or longer."""
    for part in target.parent.glob(f".{glob.escape(target.name[:200])}.*.part"):
        with suppress(OSError):
            if part.stat().st_mtime < time.time() - 86_400:
                part.unlink()


@contextmanager
def removed_if_empty(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Remove a folder in the end where work in it failed before anything was there."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            Path(folder).rmdir()
        raise


def write_text(target: Path, text: str) -> None:
    """Write a text file, which appears all at once."""
    with written_whole(target) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def written_whole(target: Path, *, packed: bool = False) -> Iterator[Path]:
    """Give a path to write to; what is there in the end appears as ``target``, all at once.

    ``packed`` packs it with gzip in the end. Who removes the file gives up: nothing appears.
    """
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    squeezed = temporary.with_suffix(".gz")
    sweep_parts(target)
    # Made by the kernel with the user's umask, which belongs to the process and not to a thread.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        if not temporary.exists():
            return
        if packed:
            with temporary.open("rb") as source, gzip.open(squeezed, "wb", LEVEL) as out:
                shutil.copyfileobj(source, out)
            os.replace(squeezed, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        squeezed.unlink(missing_ok=True)


def open_unpacked(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its first bytes say that it is packed."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[no-any-return]


def open_target(path: Path, packed: bool) -> IO[bytes]:
    """Open a file for writing, through gzip if ``packed``: the same data give the same bytes."""
    raw = path.open("wb")
    if not packed:
        return raw
    stream = gzip.GzipFile("", "wb", LEVEL, raw, mtime=0)
    stream.myfileobj = raw  # closed with it
    return stream  # type: ignore[no-any-return]
