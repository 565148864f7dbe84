"""Scratch folders for the examples of the pages, with the repository's ``catalogs`` in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_state: list[tuple[str, tempfile.TemporaryDirectory[str]]] = []
_shared: list[tempfile.TemporaryDirectory[str]] = []


def _make(repository: Path) -> tempfile.TemporaryDirectory[str]:
    scratch = tempfile.TemporaryDirectory(prefix="gaia_redshift_docs_")
    (Path(scratch.name) / "catalogs").symlink_to(repository / "catalogs")
    return scratch


def enter(repository: Path) -> None:
    """Make a scratch folder that shows the repository's ``catalogs``, and work there."""
    scratch = _make(repository)
    _state.append((os.getcwd(), scratch))
    os.chdir(scratch.name)


def leave() -> None:
    """Go back and remove the folder."""
    before, scratch = _state.pop()
    os.chdir(before)
    scratch.cleanup()


@contextmanager
def inside(repository: Path) -> Iterator[Path]:
    """Work in a folder that all pages of a build share, one after the other."""
    if not _shared:
        _shared.append(_make(repository))
    before = os.getcwd()
    os.chdir(_shared[0].name)
    try:
        yield Path(_shared[0].name)
    finally:
        os.chdir(before)


def discard() -> None:
    """Remove the shared folder."""
    while _shared:
        _shared.pop().cleanup()
