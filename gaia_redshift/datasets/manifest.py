"""The manifest of a training set: where it came from, what was cut, and with which versions."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gaia_redshift._version import __version__

__all__ = ["FORMAT", "describe_versions", "hash_file", "manifest_path", "now", "write_json"]

FORMAT = "gaia_redshift training set 1"
"""Says in every manifest what it is; the number rises when the layout changes."""
_PACKAGES = ("numpy", "astropy", "pyarrow", "gaiaxpy", "astroquery", "astropy-healpix", "scipy")


def manifest_path(output: str | os.PathLike[str]) -> Path:
    """Return where the manifest of a training set lies: beside it, with ``.json`` at the end."""
    path = Path(output)
    return path.with_name(f"{path.name}.json")


def describe_versions() -> dict[str, str]:
    """Return the versions of this package and of those that the numbers depend on."""
    found = {"gaia_redshift": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def now() -> str:
    """Return the time, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON; the file appears under its name only when it is complete."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, path)
