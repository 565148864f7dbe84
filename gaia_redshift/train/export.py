"""Write a trained network as a model folder, with what is known about it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift import __version__
from gaia_redshift._extras import find_version
from gaia_redshift.datasets.splits import PARTS
from gaia_redshift.errors import ModelError
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.model.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    hash_bytes,
    parse_manifest,
    read_files,
)
from gaia_redshift.model.registry import RedshiftModel
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.finish import TrainingResult
from gaia_redshift.train.graph import write_graph
from gaia_redshift.train.networks import get_network

__all__ = ["write_frozen_vectors", "write_model"]

_FILES = {
    "graph": "network.onnx",
    "weights": "weights.keras",
    "scaler": "scaler.json",
    "card": "model_card.md",
}
_PACKAGES = ("numpy", "keras", "tensorflow", "onnx", "gaiaxpy")
_TOLERANCE = 1e-5
"""How far predictions of the folder may lie from those of the training."""
_N_FROZEN = 32


def write_model(
    target: Path,
    *,
    network: Any,
    dataset: TrainingSet,
    config: TrainingConfig,
    grid: SamplingGrid,
    result: TrainingResult,
    history: list[dict[str, float]],
    command: str = "",
    parent: dict[str, str] | None = None,
) -> None:
    """Write the model's folder, check it by loading it, and move it into place.

    ``target`` appears complete or not at all; `ModelError` if the folder, loaded again, does not
    predict what the network did. ``parent`` names the model that the training started from.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        network.save(folder / _FILES["weights"])
        sample = dataset.scale(dataset.take("test")[:_N_FROZEN])
        write_graph(folder / _FILES["graph"], network, sample)
        (folder / _FILES["scaler"]).write_bytes(dataset.scaler.to_json())
        roles = dict(_FILES)
        if result.bins is not None:
            roles["bins"] = "redshift_bins.json"
            (folder / roles["bins"]).write_bytes(result.bins.to_json())
        if result.novelty is not None:
            roles["novelty"] = "novelty.npz"
            (folder / roles["novelty"]).write_bytes(result.novelty.to_bytes())
        manifest = _describe(dataset, config, grid, result, history)
        manifest["training"]["command"] = command
        if parent is not None:
            manifest["training"]["parent"] = parent
        (folder / _FILES["card"]).write_text(
            write_card(manifest, network.count_params()), encoding="utf-8"
        )
        manifest["files"] = {role: _list_file(folder / name) for role, name in roles.items()}
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=1) + "\n")
        _check_folder(folder, manifest, dataset, result.predicted)
        if target.exists():
            raise ModelError(f"{target} has appeared during the training; not replaced")
        os.replace(folder, target)


def write_frozen_vectors(folder: Path, dataset: TrainingSet, result: TrainingResult) -> Path:
    """Write some test vectors, spread over redshift, for regression tests: ``frozen_vectors.npz``.

    ``redshift_cnn`` are Keras's own predictions.
    """
    test = dataset.take("test")
    order = np.argsort(test.redshift, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _N_FROZEN).round().astype(int))]
    test = test[chosen]
    path = folder / "frozen_vectors.npz"
    arrays = {
        "source_id": test.source_id,
        "flux": test.flux,
        "redshift_true": test.redshift,
        "redshift_cnn": result.predicted[chosen],
    }
    if test.flux_error is not None:
        arrays["flux_error"] = test.flux_error
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def _describe(
    dataset: TrainingSet,
    config: TrainingConfig,
    grid: SamplingGrid,
    result: TrainingResult,
    history: list[dict[str, float]],
) -> dict[str, Any]:
    simulated = dataset.vectors.description["simulated"]
    packages = {"gaia_redshift": __version__, "python": platform.python_version()}
    # tensorflow-cpu and the like have other names
    packages |= {name: find_version(name) or "unknown" for name in _PACKAGES}
    return {
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "version": config.version,
        "network": config.network,
        "engine": "onnx",
        "files": {},
        "grid": grid.to_dict(),
        "n_flux": N_FLUX,
        "uses_errors": get_network(config.network).uses_errors,
        "redshift_range": list(config.redshift_range),
        "flux_tolerance": config.flux_tolerance,
        "data_release": str(dataset.vectors.description.get("release", "DR3")),
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
        "metrics": result.metrics,
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
    test = dataset.take("test")[:_N_FROZEN]
    prior = None if model.bins is None else "training"
    again = model.predict(test.flux, test.flux_error, prior=prior).redshift
    if not np.allclose(again, predicted[:_N_FROZEN], rtol=0, atol=_TOLERANCE):
        raise ModelError("the written model does not predict what the trained network did")


def write_card(manifest: dict[str, Any], n_parameters: int) -> str:
    """Fill in the card (Markdown): what a model is, from what, how good, and what is unknown."""
    path = files("gaia_redshift") / "data" / "train" / "card.toml"
    texts = tomllib.loads(path.read_text(encoding="utf-8"))
    say = texts["sentences"]
    training, metrics = manifest["training"], manifest["metrics"]
    config, data, test = training["config"], training["data"], metrics["test"]
    command = f"```\n{training['command']}\n```\n" if training["command"] else ""
    n_test = training["n_galaxies"]["test"]
    moved, average = config["grid_jitter"], config["weight_average"]
    prior = ""
    if metrics.get("prior", "training") != "training":
        form = "drawn_prior" if data.get("sky", "sdss") == "sdss" else "sky_prior"
        prior = say[form].format(prior=metrics["prior"], n=n_test)
    kind = texts["distribution" if "coverage_68" in test else "redshift"]
    values = config | manifest | texts["simulated" if data["simulated"] else "given"]
    values |= {
        **{
            key: text.format(**config, hidden=100 * config["error_dropout"])
            for key, text in kind.items()
        },
        **{f"n_{part}": n for part, n in training["n_galaxies"].items()},
        "low": manifest["redshift_range"][0],
        "high": manifest["redshift_range"][1],
        "parameters": n_parameters,
        "errors": say["errors" if manifest["uses_errors"] else "no_errors"],
        "grid": _describe_grid(manifest["grid"]),
        "trained_on_sentence": _describe_data(data, say),
        "unusable": f"{data['n_unusable']:,} of {data['n_given']:,} spectra could not be sampled"
        " and were left out.",
        "description": f"\n- {config['description']}" if config["description"] else "",
        "optimizer": {"adamax": "Adamax", "adamw": "AdamW"}[config["optimizer"]],
        "weights": f"weights averaged with factor {average:g}"
        if average
        else "weights of the last",
        "date": training["date"][:10],
        "package_version": training["packages"]["gaia_redshift"],
        "keras": training["packages"]["keras"],
        "tensorflow": training["packages"]["tensorflow"],
        "moved": say["moved"].format(moved_percent=100 * moved) if moved else "",
        "parent": _describe_parent(training, say),
        "command": command and f"\n{command}",
        "n_measured": test.get("n", n_test),
        "same": ", simulated in the same way" if data["simulated"] else "",
        "prior": prior,
        "metrics": "\n".join(
            f"| {text} | {test[key]:.4f} |" for key, text in texts["metrics"].items() if key in test
        ),
        "bins": "\n".join(
            f"| {row['low']:.2f}-{row['high']:.2f} | {row['n']:,} | {row['mean_error']:+.4f}"
            f" | {row['scatter']:.4f} |"
            for row in metrics["test_bins"]
        ),
        "honesty": _tabulate_honesty(metrics, say),
        "retrain": command + say["retrain"],
    }
    return str(texts["card"]).format(**values)


def _describe_parent(training: dict[str, Any], say: dict[str, str]) -> str:
    config, parent = training["config"], training.get("parent")
    mixed = training["data"].get("mixed_with")
    frozen = ", ".join(config["freeze"]) or "none"
    text = "" if parent is None else say["parent"].format(**parent, frozen=frozen)
    return text + (say["mixed"].format(n=mixed["n"], repeat=config["repeat"]) if mixed else "")


def _tabulate_honesty(metrics: dict[str, Any], say: dict[str, str]) -> str:
    """Write coverage by predicted redshift and by brightness, the PIT, and what passes."""
    test, passing = metrics["test"], metrics.get("galaxies")
    lines = []
    for key, words, form in (
        ("by_prediction", "predicted redshift", "{:.2f}-{:.2f}"),
        ("by_brightness", "mean flux (e-/s per sample)", "{:.3g} to {:.3g}"),
    ):
        if key not in test:
            continue
        lines += [
            f"\n| {words} | galaxies | mean error | MAE | within 68 % | within 95 % |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {form.format(row['low'], row['high'])} | {row['n']:,} | {row['mean_error']:+.4f}"
            f" | {row['mae']:.4f} | {row['coverage_68']:.3f} | {row['coverage_95']:.3f} |"
            for row in test[key]
        ]
    if lines:
        lines.append(say["pit"].format(tenths=", ".join(f"{value:.2f}" for value in test["pit"])))
    text = "\n".join(lines)
    if passing is not None:
        shares = {key: 100 * passing[key] for key in ("kept", "others_kept")}
        text += say["galaxies"].format(**(passing | shares))
    return text


def _describe_data(data: dict[str, Any], say: dict[str, str]) -> str:
    if data["kind"] == "simulated":
        sky = data.get("sky", "sdss")
        n_others = round(data["n"] * data.get("contaminants", 0.0))
        forms = ["data"] + ["blind"] * (sky != "sdss") + ["contaminants"] * (n_others > 0)
        return "".join(say[f] for f in forms).format(**(data | {"sky": sky}), n_others=n_others)
    names = [str(part.get("file") or part.get("table")) for part in data.get("parts", [])]
    named = f" from {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
    what = "simulated galaxies (none is real)" if data["simulated"] else "galaxies"
    return f"{data['n_given']:,} {what}{named}."


def _describe_grid(grid: dict[str, list[float]]) -> str:
    return ", ".join(
        f"{band.upper()} {nm[0]:g}-{nm[-1]:g} nm"
        + (" (uniform in pseudo-wavelength)" if len(nm) == 2 else f" ({len(nm)} wavelengths)")
        for band, nm in grid.items()
    )
