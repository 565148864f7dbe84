"""The folder of an unfinished build: what was asked for, and the labels found so far."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gaia_redshift.datasets.cuts import CutCounts, TrainingCuts
from gaia_redshift.datasets.labels import LabelOptions, Labels, find_labels, open_sources
from gaia_redshift.datasets.manifest import write_json
from gaia_redshift.errors import InputError
from gaia_redshift.readers.identity import identify

__all__ = [
    "describe_spectra",
    "is_from_archive",
    "is_simulated",
    "load_labels",
    "open_folder",
]

logger = logging.getLogger(__name__)


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
    request = json.loads(json.dumps(request, default=str))
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        if found != request:
            keys = sorted(set(found) | set(request))
            other = [key for key in keys if found.get(key) != request.get(key)]
            raise InputError(
                f"{folder}: an unfinished build with other {', '.join(other)} lies there; give the"
                " same again to go on with it, or remove the folder"
            )
        logger.info("going on with the build in %s", folder)
        return folder
    folder.mkdir(exist_ok=True)
    write_json(request, marker)
    return folder


def load_labels(
    folder: Path,
    sources: Any,
    options: LabelOptions,
    cuts: TrainingCuts,
    *,
    remote: dict[str, Any],
    progress: bool,
) -> Labels:
    """Find labels, or take those of an earlier run: services need not be asked again."""
    path = folder / "labels.npz"
    marker = folder / "labels.json"
    if marker.exists() and path.exists():
        try:
            about = json.loads(marker.read_text(encoding="utf-8"))
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in content.files}
            ids = arrays.pop("source_id")
            counts = CutCounts(about["removed"], about["given"])
            return Labels(ids, arrays, counts, about["about"])
        except (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile):
            logger.warning("%s: is damaged; labels are looked for again", path)
    settings, login = remote.get("settings"), remote.get("login")
    table, origin = open_sources(sources, settings=settings, login=login)
    if not len(table):
        raise InputError("the table of sources has no rows")
    labels = find_labels(table, options, cuts, settings=settings, progress=progress)
    labels.about["sources"] = origin
    np.savez(path, source_id=labels.source_id, **labels.columns)  # type: ignore[arg-type]
    counted = {"removed": labels.counts.removed, "given": labels.counts.n_given}
    write_json({**counted, "about": labels.about}, marker)
    return labels
