"""Bytes of a file or zip member, decompressed on the way.

Of what is no regular file, standard input and pipes of a shell are read once, others refused.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from gaia_redshift._files import DAMAGE, GZIP, gzip, one_line
from gaia_redshift._threads import read_ahead
from gaia_redshift.errors import GaiaRedshiftError, InputError

__all__ = [
    "STANDARD",
    "Content",
    "ReadMeter",
    "open_path",
    "read_chunks",
    "read_head",
    "report_damage",
    "take_file",
    "unpack",
]

HEAD = 4096
CHUNK = 1 << 20
LARGEST_RATIO, SLACK = 100, 256 << 20
"""What is packed and must be held whole may unpack to so many times its size, and these bytes."""
STANDARD = "-"
"""Instead of a file's name: standard input, or output."""
_OPEN = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_copies: dict[str, Path] = {}
T = TypeVar("T")


class ReadMeter:
    """How many bytes of a file have been read, for the remaining time."""

    def __init__(self) -> None:
        self._file: Any = None

    def watch(self, file: Any) -> Any:
        """Follow this open file from now on; returns it."""
        self._file = file
        return file

    def tell(self) -> int:
        """Return the bytes read so far; 0 where that is not known."""
        try:
            return int(self._file.tell())
        except (AttributeError, ValueError, OSError):  # none yet, or closed
            return 0


@dataclass(frozen=True)
class Content:
    """Something to read: ``open`` gives it as a binary stream, from its start.

    ``label`` names it in messages, ``source`` in ``meta["inputs"]``. ``path`` is where it lies as a
    plain file, ``packed`` where it lies packed with gzip, once; ``meter`` is told how far reading
    has come.
    """

    label: str
    source: str
    open: Callable[[], IO[bytes]]
    path: Path | None = None
    packed: Path | None = None
    meter: ReadMeter | None = None

    def read(self) -> bytes:
        """Return everything."""
        most = None
        if self.packed is not None:
            most = LARGEST_RATIO * self.packed.stat().st_size + SLACK
        parts: list[bytes] = []
        size = 0
        with self.open() as stream:
            while piece := stream.read(CHUNK):
                parts.append(piece)
                size += len(piece)
                if most is not None and size > most:
                    raise InputError(
                        f"{self.label}: unpacks to far more than it holds ({size >> 20:,} MB and"
                        " more): refused"
                    )
        return b"".join(parts)


def _open_gzip(opener: Callable[[], IO[bytes]]) -> IO[bytes]:
    raw = opener()
    stream: Any = gzip.GzipFile(fileobj=raw, mode="rb")
    stream.myfileobj = raw  # closed with it
    return stream  # type: ignore[no-any-return]


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


def open_path(path: Path, meter: ReadMeter | None = None) -> Content:
    """Return a file's content, through gzip as often as it was packed (told by its first bytes)."""
    source = take_file(path)

    def open_file() -> IO[bytes]:
        file = source.open("rb")
        return file if meter is None else meter.watch(file)  # type: ignore[no-any-return]

    return unpack(Content(str(path), str(path), open_file, source, meter=meter))


def unpack(content: Content) -> Content:
    """Look through gzip, which the archive also uses without saying so in a name."""
    for _ in range(3):
        if read_head(content)[:2] != GZIP:
            return content
        opener = partial(_open_gzip, content.open)
        content = replace(content, open=opener, path=None, packed=content.path)
    return content


def read_head(content: Content) -> bytes:
    """Return the first bytes."""
    try:
        with content.open() as stream:
            head = stream.read(HEAD)
    except (OSError, *DAMAGE) as error:
        kind = "opened" if isinstance(error, OSError) and error.errno else "unpacked (damaged?)"
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{content.label}: cannot be {kind}: {reason}") from error
    if not head:
        raise InputError(f"{content.label}: the file is empty")
    return head


def report_damage(items: Iterator[T], label: str, kind: str) -> Iterator[T]:
    """Pass items on; whatever a parser raises on damaged bytes becomes one `InputError`."""
    try:
        yield from items
    except GaiaRedshiftError:
        raise
    except MemoryError as error:  # one absurd claim is no reason to leave the other files
        raise InputError(
            f"{label}: cannot be read as {kind}: it asks for more memory than there is (damaged?)"
        ) from error
    except Exception as error:  # parsers raise anything: struct.error, IndexError, ExpatError, ...
        raise InputError(
            f"{label}: cannot be read as {kind} (damaged or cut short?): {one_line(error)}"
        ) from error


def read_chunks(content: Content) -> Iterator[bytes]:
    """Read ahead in a thread: unpacking gzip then costs no time besides parsing."""

    def read() -> Generator[bytes, None, None]:
        with content.open() as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    with closing(read()) as chunks, closing(read_ahead(chunks, 8)) as ahead:
        yield from ahead
