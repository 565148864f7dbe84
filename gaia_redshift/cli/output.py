"""Output of commands to standard output, and words that a terminal shows and does not obey."""

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
from gaia_redshift.errors import InputError
from gaia_redshift.readers.pipes import STANDARD

__all__ = ["PlainStream", "add_format", "open_output"]

FORMATS = {"ecsv": "ecsv", "csv": "csv", "votable": "vot"}
"""What can be written to standard output, and the ending of such a file."""


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


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what goes to standard output."""
    parser.add_argument(
        "--format", choices=[*FORMATS], help="with -o -: what to write to standard output (ecsv)"
    )


@contextmanager
def open_output(arguments: argparse.Namespace) -> Iterator[None]:
    """Write what the command writes to standard output, where that is asked for (``-o -``).

    ``arguments.piped`` then says that words must go elsewhere. `InputError` if ``--format`` is
    given with a file, whose ending says its format.
    """
    arguments.piped = arguments.output == STANDARD
    if not arguments.piped:
        if arguments.format:
            raise InputError("--format goes with -o -: a file's ending says its format")
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{FORMATS[arguments.format or 'ecsv']}"
        arguments.output = str(path)
        try:
            yield
        finally:
            arguments.output = STANDARD
        if path.exists():
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()
