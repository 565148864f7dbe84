"""Write a trained network as a model folder, with what is known about it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._version import __version__
from gaia_redshift.errors import ModelError
from gaia_redshift.evaluate.metrics import compute_metrics
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.model.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    hash_bytes,
    parse_manifest,
    read_files,
)
from gaia_redshift.model.registry import RedshiftModel
from gaia_redshift.train.card import write_card
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import PARTS, TrainingSet

__all__ = ["measure_bins", "write_frozen_vectors", "write_model"]

_FILES = {"weights": "weights.keras", "scaler": "scaler.json", "card": "model_card.md"}
_PACKAGES = ("numpy", "keras", "tensorflow", "gaiaxpy")
_N_FROZEN = 32
_BIN_WIDTH = 0.05


def write_model(
    target: Path,
    *,
    network: Any,
    dataset: TrainingSet,
    config: TrainingConfig,
    grid: SamplingGrid,
    predicted: NDArray[np.float64],
    history: list[dict[str, float]],
    command: str = "",
) -> None:
    """Write the model's folder, check it by loading it, and move it into place.

    Parameters
    ----------
    target : Path
        Appears complete or not at all.
    network : keras.Model
    dataset : TrainingSet
    config : TrainingConfig
    grid : SamplingGrid
        Of the vectors.
    predicted : ndarray, shape (n_test,)
        The network's redshifts of the test part.
    history : list of dict
        One record per epoch.
    command : str
        The command line that did it.

    Raises
    ------
    ModelError
        If the folder, loaded again, does not predict what the network did.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        network.save(folder / _FILES["weights"])
        (folder / _FILES["scaler"]).write_bytes(dataset.scaler.to_json())
        manifest = _describe(dataset, config, grid, predicted, history)
        manifest["training"]["command"] = command
        (folder / _FILES["card"]).write_text(
            write_card(manifest, network.count_params()), encoding="utf-8"
        )
        manifest["files"] = {role: _list_file(folder / name) for role, name in _FILES.items()}
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1) + "\n")
        _check_folder(folder, manifest, dataset, predicted)
        if target.exists():
            raise ModelError(f"{target} has appeared during the training; not replaced")
        os.replace(folder, target)


def write_frozen_vectors(
    folder: Path, dataset: TrainingSet, predicted: NDArray[np.float64]
) -> Path:
    """Write some test vectors, spread over redshift, for regression tests.

    Returns
    -------
    Path
        ``frozen_vectors.npz`` with ``source_id``, ``flux`` (n, 186), ``redshift_true`` and
        ``redshift_cnn``, the network's own predictions.
    """
    order = np.argsort(dataset.get_redshifts("test"), kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _N_FROZEN).round().astype(int))]
    rows = dataset.rows["test"][chosen]
    path = folder / "frozen_vectors.npz"
    np.savez_compressed(
        path,
        source_id=dataset.vectors.source_id[rows],
        flux=dataset.vectors.flux[rows],
        redshift_true=dataset.vectors.redshift[rows],
        redshift_cnn=predicted[chosen],
    )
    return path


def measure_bins(
    predicted: NDArray[np.float64], true: NDArray[np.float64], limits: tuple[float, float]
) -> list[dict[str, Any]]:
    """Mean and standard deviation of predicted - true, in bins of 0.05 of true redshift.

    The last bin includes its upper end; bins without galaxies are left out.
    """
    n_bins = max(1, round((limits[1] - limits[0]) / _BIN_WIDTH))
    edges = np.linspace(limits[0], limits[1], n_bins + 1)
    index = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, n_bins - 1)
    bins = []
    for i in range(n_bins):
        error = (predicted - true)[index == i]
        if len(error):
            bins.append(
                {
                    "low": round(float(edges[i]), 6),
                    "high": round(float(edges[i + 1]), 6),
                    "n": len(error),
                    "mean_error": float(error.mean()),
                    "scatter": float(error.std()),
                }
            )
    return bins


def _describe(
    dataset: TrainingSet,
    config: TrainingConfig,
    grid: SamplingGrid,
    predicted: NDArray[np.float64],
    history: list[dict[str, float]],
) -> dict[str, Any]:
    true = dataset.get_redshifts("test")
    simulated = dataset.vectors.description["simulated"]
    packages = {"gaia_redshift": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # tensorflow-cpu and the like
            packages[name] = "unknown"
    return {
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "version": config.version,
        "network": config.network,
        "engine": "keras",
        "files": {},
        "grid": grid.to_dict(),
        "n_flux": N_FLUX,
        "uses_errors": False,
        "redshift_range": list(config.redshift_range),
        "flux_tolerance": config.flux_tolerance,
        "trained_on": "simulated galaxies" if simulated else "galaxies given by the user",
        "training": {
            "command": "",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "config": config.to_dict(),
            "seed": config.seed,
            "data": dataset.vectors.description,
            "n_galaxies": {part: len(dataset.rows[part]) for part in PARTS},
            "packages": packages,
            "history": history,
        },
        "metrics": {
            "test": compute_metrics(predicted, true),
            "test_bins": measure_bins(predicted, true, config.redshift_range),
        },
    }


def _list_file(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"name": path.name, "sha256": hash_bytes(data), "size": len(data)}


def _check_folder(
    folder: Path,
    manifest: dict[str, Any],
    dataset: TrainingSet,
    predicted: NDArray[np.float64],
) -> None:
    parse_manifest(manifest, folder / MANIFEST_NAME)
    model = RedshiftModel(folder, manifest, read_files(folder, manifest))
    rows = dataset.rows["test"][:_N_FROZEN]
    again = model.predict(dataset.vectors.flux[rows]).redshift
    if not np.allclose(again, predicted[:_N_FROZEN], rtol=0, atol=1e-5):
        raise ModelError("the written model does not predict what the trained network did")
