"""A scratch folder for the examples, so that nothing they write lands in the repository."""

import os
import tempfile
from pathlib import Path

_state: list[tuple[str, tempfile.TemporaryDirectory[str]]] = []


def enter(repository: Path) -> None:
    """Make a scratch folder that shows the repository's ``catalogs``, and work there."""
    scratch = tempfile.TemporaryDirectory(prefix="gaia_redshift_docs_")
    (Path(scratch.name) / "catalogs").symlink_to(repository / "catalogs")
    _state.append((os.getcwd(), scratch))
    os.chdir(scratch.name)


def leave() -> None:
    """Go back and remove the folder."""
    before, scratch = _state.pop()
    os.chdir(before)
    scratch.cleanup()
