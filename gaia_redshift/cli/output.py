"""What commands say, and standard output as their file; a terminal shows it and does not obey."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gaia_redshift._files import escape_controls
from gaia_redshift.cli.options import STREAMED
from gaia_redshift.errors import InputError
from gaia_redshift.readers.content import STANDARD

__all__ = ["PROGRAM", "PlainStream", "complain", "open_output", "say"]

PROGRAM = "gaia-redshift"


class PlainStream:
    """A stream of text on which control characters are shown, not obeyed.

    What its encoding does not have is shown as an escape, too. Without ``escape`` control
    characters pass, for progress bars, which move the cursor.
    """

    def __init__(self, stream: Any, *, escape: bool = True) -> None:
        self._stream, self._escape = stream, escape

    def write(self, text: str) -> int:
        """Write text."""
        shown = escape_controls(text) if self._escape else text
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(arguments: argparse.Namespace, words: Any) -> None:
    """Print what became of the work, unless the command is to be quiet.

    Where standard output is the result, a table or JSON, words go to stderr.
    """
    if not arguments.quiet:
        print(escape_controls(str(words)), file=sys.stderr if arguments.piped else sys.stdout)


def complain(message: str, word: str = "error") -> None:
    """Print a message on stderr, in one line."""
    print(f"{PROGRAM}: {word}: {escape_controls(' '.join(message.split()))}", file=sys.stderr)


@contextmanager
def open_output(arguments: argparse.Namespace) -> Iterator[None]:
    """Write what the command writes to standard output, where that is asked for (``-o -``).

    ``arguments.piped`` then says that words must go elsewhere, ``arguments.where`` what they say of
    the place. `InputError` if ``--format`` is given with a file, whose ending says its format.
    """
    arguments.piped = arguments.output == STANDARD
    arguments.where = "standard output" if arguments.piped else arguments.output
    if not arguments.piped:
        if arguments.format:
            raise InputError("--format goes with -o -: a file's ending says its format")
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{STREAMED[arguments.format or 'ecsv']}"
        arguments.output = str(path)
        try:
            yield
        finally:
            arguments.output = STANDARD
        if path.exists():
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()
