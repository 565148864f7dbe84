"""The manifest of a training set: where it came from, what was cut, and with which versions."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from gaia_redshift._files import write_text
from gaia_redshift._version import __version__

__all__ = [
    "FORMAT",
    "describe_manifest",
    "describe_versions",
    "hash_file",
    "manifest_path",
    "now",
    "write_json",
]

FORMAT = "gaia_redshift training set 1"
"""Says in every manifest what it is; the number rises when the layout changes."""
_PACKAGES = ("numpy", "astropy", "pyarrow", "gaiaxpy", "astroquery", "astropy-healpix", "scipy")


def manifest_path(output: str | os.PathLike[str]) -> Path:
    """Return where the manifest of a training set lies: beside it, with ``.json`` at the end."""
    path = Path(output)
    return path.with_name(f"{path.name}.json")


def describe_manifest(manifest: dict[str, Any]) -> str:
    """Return the counts of a manifest in lines: what each cut left, and the parts.

    Parameters
    ----------
    manifest : dict
        As `build_training_set` returns it.

    Returns
    -------
    str
    """
    lines = []
    for line in manifest.get("counts", []):
        removed = f"-{line['removed']:,}" if line["removed"] else ""
        lines.append(f"{line['left']:>12,} {removed:>10}  {line['meaning']}")
    parts = manifest.get("split", {}).get("parts", {})
    lines.append(
        ", ".join(
            f"{name} {count['galaxies']:,} galaxies in {count['regions']:,} regions"
            for name, count in parts.items()
        )
    )
    if manifest.get("simulated"):
        lines.append("all galaxies are simulated")
    return "\n".join(lines)


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
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")
