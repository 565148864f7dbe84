"""Train a model: `train_model`, from spectra with true redshifts, or another model, to a folder.

A training that starts from a model has its network, scaler and bins of redshift: what the network
learnt holds for inputs so prepared. Density, temperatures and the measure of what is unlike the
training set are fitted anew.
"""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaia_redshift._files import removed_if_empty
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.datasets.file import is_dataset
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.model.keras_engine import import_keras, import_keras_for_training
from gaia_redshift.model.manifest import read_files
from gaia_redshift.model.registry import RedshiftModel, load_model
from gaia_redshift.readers import check_columns
from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.train.calibrate import import_sklearn
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import check_redshifts, prepare_dataset, split_rows
from gaia_redshift.train.export import write_frozen_vectors, write_model
from gaia_redshift.train.finish import finish_training
from gaia_redshift.train.fit import Checkpoint, fit_network, read_checkpoint
from gaia_redshift.train.graph import import_onnx
from gaia_redshift.train.networks import freeze_layers, get_network, get_recipe
from gaia_redshift.train.sources import (
    collect_vectors,
    find_grid,
    mix_vectors,
    open_source,
)

__all__ = ["ParentModel", "make_fine_tuning_config", "read_parent", "train_model"]

_FINE_TUNING: dict[str, Any] = {
    "epochs": 20,
    "learning_rate": 3e-4,
    "grid_jitter": 0.0,
    "patience": 4,
    "weight_average": 0.95,
    "split": (0.7, 0.2, 0.1),
}
"""What a training that starts from a model differs in from that model's own."""
_LEVEL_JITTER = 0.3
_SKY_SEED = 7000
_MIX_SEED = 5000
"""Added to a training's seed: galaxies mixed in are others than those of trainings and tests."""


@preserve_settings()
def train_model(
    source: Any,
    *,
    output: str | os.PathLike[str],
    config: TrainingConfig | None = None,
    truth: str = "redshift_true",
    grid: SamplingGrid = DEFAULT_GRID,
    start: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    command: str = "",
) -> Path:
    """Train a model and write it as a folder that `gaia_redshift.load_model` loads.

    The same source, configuration and machine (processor and number of threads) give the same
    weights to the last bit, also when the run was interrupted and resumed.

    Parameters
    ----------
    source : path, table, XPSpectra, list of these, SimulatedGalaxies, GalaxyDataset, or \
            (FluxVectors, redshifts)
        A training set of `gaia_redshift.read_dataset`, or the path of its file, with its own split;
        spectra in any form that `gaia_redshift.read_spectra` reads, with a column of true
        redshifts; galaxies to simulate; or vectors with their redshifts, shape (n,).
    output : path
        The model's folder; must not exist yet.
    config : TrainingConfig, optional
        By default the recipe of Kiraleos (2023), or with ``start`` that of
        `gaia_redshift.train.make_fine_tuning_config`.
    truth : str
        Name of the column of true redshifts.
    grid : SamplingGrid
        Where to sample; vectors keep their own grid, and a parent's grid comes first.
    start : str or path, optional
        Model to start from, by name or folder: its weights, scaler and bins (fine-tuning).
    run_dir : path, optional
        Folder for sampled vectors, checkpoint and ``history.csv``; ``<output>.run`` by default.
        It stays after the run and may then be deleted.
    resume : bool
        Go on with the run in ``run_dir``, if there is one.
    progress : bool
        Show progress bars.
    command : str
        The command line, for the manifest.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    InputError
        If the source or configuration cannot be used, or a run or model is already there.
    ModelError
        If the training diverges, or if what it needs (the extra ``train``) is not installed.
    """
    if config is None:
        config = TrainingConfig() if start is None else make_fine_tuning_config(start)
    target = Path(output)
    if target.exists():
        raise InputError(f"{target} exists already; choose another folder for the model")
    design = get_network(config.network)
    design.check_options(config.network_options)
    # Before hours of simulation and training: what is missing.
    import_onnx()
    if design.distribution:
        import_sklearn()
    if isinstance(source, str | os.PathLike) and not is_dataset(source):
        check_columns(source, [truth])
    import_keras_for_training()  # last, as it takes seconds
    parent = None if start is None else read_parent(start)
    if parent is not None:
        parent.check(config)
    source = open_source(source, config.redshift_range)
    grid = _choose_grid(find_grid(source), grid, parent)
    folder = Path(run_dir) if run_dir is not None else target.with_name(target.name + ".run")
    found = _find_run(folder, config, resume)
    folder.mkdir(parents=True, exist_ok=True)
    collect = functools.partial(
        collect_vectors, grid=grid, errors=design.uses_errors, progress=progress
    )
    with removed_if_empty(folder):
        jitter_seed = config.seed if config.grid_jitter else None
        vectors = collect(source, folder, truth=truth, jitter_seed=jitter_seed)
    if config.mix:
        check_redshifts(vectors, config)
        simulated = SimulatedGalaxies(config.mix, "mixed", _MIX_SEED + config.seed)
        vectors = mix_vectors(
            vectors, split_rows(vectors, config), collect(simulated, folder / "mix")
        )
    dataset = prepare_dataset(
        vectors, config, design.scaler, None if parent is None else parent.model.scaler
    )
    has_others = bool(len(dataset.others["train"]))
    if has_others and not design.distribution:
        raise InputError(f"the network {config.network} cannot learn what is no galaxy")
    objective = design.make_objective(config, has_others)
    if parent is None:
        network = design.build(config.seed, config.bins, **config.network_options)
    else:
        network = parent.build()
    freeze_layers(network, config.freeze)
    history = fit_network(
        network, dataset, config, objective, folder=folder, found=found, progress=progress
    )
    sky = None
    if vectors.description.get("sky", "sdss") != "sdss":
        n_sky = min(60_000, max(300, len(vectors) // 10))
        sky = collect(SimulatedGalaxies(n_sky, "sdss", _SKY_SEED + config.seed), folder / "sky")
    result = finish_training(network, dataset, config, objective, parent, sky=sky)
    write_frozen_vectors(folder, dataset, result)
    write_model(
        target,
        network=network,
        dataset=dataset,
        config=config,
        grid=grid,
        result=result,
        history=history,
        command=command,
        parent=None if parent is None else parent.describe(),
    )
    return target


def _choose_grid(
    own: SamplingGrid | None, given: SamplingGrid, parent: ParentModel | None
) -> SamplingGrid:
    """Return the parent's grid, or that of vectors, or the one that was given."""
    if parent is None:
        return given if own is None else own
    if own is not None and own != parent.model.grid:
        raise InputError(
            f"the vectors are on another grid than those of {parent.model.name}: sample the"
            " spectra on its grid"
        )
    return parent.model.grid


def _find_run(folder: Path, config: TrainingConfig, resume: bool) -> Checkpoint | None:
    """Return the checkpoint of a run to go on with, if there is one; it must be the same run."""
    found = read_checkpoint(folder)
    if found is None:
        return None
    if not resume:
        raise InputError(
            f"{folder} holds a run of {len(found.history)} epochs: resume it (--resume), delete it"
            " or choose another run folder (--run-dir)"
        )
    stored, given = found.config, config.to_dict()
    defaults = TrainingConfig().to_dict()
    if config.epochs < len(found.history):
        raise InputError(
            f"{folder}: this run has already done {len(found.history)} epochs, more than the"
            f" {config.epochs} asked for"
        )
    # Neither words on the model nor more epochs change what was done so far.
    free = {"name", "version", "description", "flux_tolerance"}
    if config.schedule == "constant":
        free.add("epochs")
    for key in given:
        before = stored.get(key, defaults[key])
        if key not in free and before != given[key]:
            raise InputError(
                f"{folder}: this run was begun with {key} {before!r}, not"
                f" {given[key]!r}; give the same or choose another run folder"
            )
    return found


@dataclass(frozen=True, eq=False)
class ParentModel:
    """A model that a training starts from; ``weights`` is its Keras file."""

    model: RedshiftModel
    weights: bytes = field(repr=False)

    def describe(self) -> dict[str, str]:
        """Return name, version and sha256 of the weights, for the manifest of its child."""
        sha256 = self.model.manifest["files"]["weights"]["sha256"]
        return {"name": self.model.name, "version": self.model.version, "sha256": sha256}

    def build(self) -> Any:
        """Return its network in Keras, all layers free to change."""
        keras = import_keras()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.keras"
            path.write_bytes(self.weights)
            network = keras.saving.load_model(path, compile=False, safe_mode=True)
        for layer in network.layers:
            layer.trainable = True
        return network

    def check(self, config: TrainingConfig) -> None:
        """Refuse a configuration that asks for another network than the parent's (`InputError`)."""
        for key, value in _inherit(self.model.manifest).items():
            given = getattr(config, key)
            if (list(given) if isinstance(given, tuple) else given) != value:
                raise InputError(
                    f"a training from {self.model.name} keeps its {key}, {value!r}, and"
                    f" cannot have {given!r}"
                )


def read_parent(model: str | os.PathLike[str]) -> ParentModel:
    """Read a model to start from, by name or folder; `ModelError` if that cannot be done."""
    loaded = load_model(model)
    get_network(loaded.manifest["network"])
    return ParentModel(loaded, read_files(loaded.folder, loaded.manifest)["weights"])


def make_fine_tuning_config(model: str | os.PathLike[str], **options: Any) -> TrainingConfig:
    """Return the configuration with which a model is usually trained further.

    Parameters
    ----------
    model : str or path
        Name or folder.
    **options
        Fields of `TrainingConfig` that are to be otherwise.

    Raises
    ------
    InputError
        If an option is unknown or cannot be used.
    """
    loaded = load_model(model)
    manifest = loaded.manifest
    recipe = get_recipe(manifest["network"]) | _FINE_TUNING | _inherit(manifest)
    if loaded.bins is not None and loaded.bins.blind_to_flux:
        recipe["level_jitter"] = _LEVEL_JITTER
    if not get_network(manifest["network"]).distribution:
        recipe["weight_average"] = 0.0
    name = {"name": f"{manifest['name']}-tuned"}
    return TrainingConfig.from_dict(recipe | name | options)


def _inherit(manifest: dict[str, Any]) -> dict[str, Any]:
    """Options that a child shares with its parent."""
    config = manifest["training"]["config"]
    return {
        "network": manifest["network"],
        "network_options": dict(config.get("network_options", {})),
        "bins": int(config.get("bins", TrainingConfig().bins)),
        "redshift_range": [float(v) for v in manifest["redshift_range"]],
    }
