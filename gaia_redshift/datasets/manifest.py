"""What a training set was asked to be, while it is built, and its manifest in the end."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gaia_redshift import __version__
from gaia_redshift._extras import find_version
from gaia_redshift._files import write_text
from gaia_redshift.errors import InputError
from gaia_redshift.readers.identity import (
    as_json,
    find_changes,
    identify,
    read_request,
    write_request,
)

__all__ = [
    "FORMAT",
    "describe_manifest",
    "describe_spectra",
    "describe_versions",
    "hash_file",
    "is_from_archive",
    "is_simulated",
    "manifest_path",
    "now",
    "open_folder",
    "write_json",
]

logger = logging.getLogger(__name__)

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
    versions = {"gaia_redshift": __version__, **{name: find_version(name) for name in _PACKAGES}}
    return {name: version for name, version in versions.items() if version}


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


def is_from_archive(spectra: Any) -> bool:
    """Whether spectra are to be fetched."""
    return isinstance(spectra, str) and spectra == "archive"


def is_simulated(spectra: Any) -> bool:
    """Whether spectra are to be simulated."""
    from gaia_redshift.simulate.generate import SimulatedGalaxies

    return isinstance(spectra, SimulatedGalaxies)


def describe_spectra(spectra: Any) -> dict[str, Any]:
    """Say in JSON where spectra come from, so that a later call can tell whether it is the same."""
    if is_from_archive(spectra):
        return {"from": "archive"}
    if is_simulated(spectra):
        about = {"n": spectra.n, "survey": str(spectra.survey), "seed": spectra.seed}
        return {"from": "simulation", **about}
    from gaia_redshift.readers.sources import iter_sources

    if isinstance(spectra, Iterator):
        raise InputError("spectra must be something that can be gone through twice: give a list")
    return {"from": "files", "parts": [identify(part) for part in iter_sources(spectra)]}


def open_folder(target: Path, request: dict[str, Any]) -> Path:
    """Return the folder of pieces: a new one, or that of the same build begun before."""
    folder = target.with_name(f"{target.name}.parts")
    marker = folder / "request.json"
    before = read_request(marker)
    if before is None:
        folder.mkdir(exist_ok=True)
        write_request(marker, request)
    elif changed := find_changes(before, as_json(request)):
        raise InputError(
            f"{folder}: an unfinished build with other {', '.join(changed)} lies there; give the"
            " same again to go on with it, or remove the folder"
        )
    else:
        logger.info("going on with the build in %s", folder)
    return folder
