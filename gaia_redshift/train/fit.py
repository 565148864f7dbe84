"""Train a network: `train_model`, from spectra with true redshifts to a model folder."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import removed_if_empty
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.datasets.file import is_dataset
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.grid import DEFAULT_GRID, SamplingGrid
from gaia_redshift.model.keras_engine import compile_network, import_keras_for_training
from gaia_redshift.readers import check_columns
from gaia_redshift.simulate.generate import SimulatedGalaxies
from gaia_redshift.train.calibrate import import_sklearn
from gaia_redshift.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import (
    TrainingSet,
    check_redshifts,
    prepare_dataset,
    split_rows,
)
from gaia_redshift.train.export import write_frozen_vectors, write_model
from gaia_redshift.train.fine_tuning import (
    ParentModel,
    freeze_layers,
    make_fine_tuning_config,
    read_parent,
)
from gaia_redshift.train.finish import finish_training, run_network
from gaia_redshift.train.graph import import_onnx
from gaia_redshift.train.networks import Network, get_network
from gaia_redshift.train.objectives import Objective, make_objective
from gaia_redshift.train.sources import (
    collect_vectors,
    find_grid,
    mix_vectors,
    open_source,
)
from gaia_redshift.train.steps import (
    average_weights,
    compile_steps,
    make_optimizer,
    open_bar,
    run_epoch,
    set_weights,
)

__all__ = ["fit_network", "train_model"]

logger = logging.getLogger(__name__)

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
        grid = parent.model.grid
    source = open_source(source, config.redshift_range)
    own_grid = find_grid(source)
    if own_grid is not None:
        if parent is not None and own_grid != grid:
            raise InputError(
                f"the vectors are on another grid than those of {parent.model.name}: sample"
                " the spectra on its grid"
            )
        grid = own_grid
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
    objective = make_objective(config, design.distribution, has_others)
    network, history = fit_network(
        dataset,
        config,
        design,
        objective,
        parent=parent,
        folder=folder,
        found=found,
        progress=progress,
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


def _build_network(config: TrainingConfig, design: Network, parent: ParentModel | None) -> Any:
    if parent is None:
        network = design.build(config.seed, config.bins, **config.network_options)
    else:
        network = parent.build()
    freeze_layers(network, config.freeze)
    return network


def fit_network(
    dataset: TrainingSet,
    config: TrainingConfig,
    design: Network,
    objective: Objective,
    *,
    parent: ParentModel | None = None,
    folder: Path,
    found: Checkpoint | None,
    progress: bool,
) -> tuple[Any, list[dict[str, float]]]:
    """Run the epochs that are still to do; return the network and the history.

    ``folder`` is the checkpoint's, ``found`` that of a run to go on with.
    """
    import_keras_for_training()
    network = _build_network(config, design, parent)
    rows = np.concatenate([dataset.repeat_rows(config.repeat), dataset.others["train"]])
    steps = math.ceil(len(rows) / config.batch_size)
    optimizer = make_optimizer(config, steps * config.epochs)
    optimizer.build(network.trainable_variables)
    history: list[dict[str, float]] = []
    best: list[NDArray[Any]] | None = None
    if found is not None:
        found.restore(network, optimizer)
        history, best = found.history, found.best
        logger.info("resumed after epoch %d from %s", len(history), folder)

    run_steps = compile_steps(network, optimizer, objective)
    held_out = dataset.take("validation")
    inputs, true = dataset.scale(held_out), held_out.redshift
    call = compile_network(network)
    for epoch in range(len(history) + 1, config.epochs + 1):
        if _is_over(history, config.patience):
            break
        start = time.perf_counter()
        rng = np.random.default_rng([config.seed, epoch])
        order = rng.permutation(rows)
        bar = open_bar(epoch, config.epochs, len(order), progress)
        with bar:
            loss = run_epoch(run_steps, dataset, order, rng, config, bar=bar)
            trained = time.perf_counter() - start
            if not math.isfinite(loss):
                raise ModelError(
                    f"the training diverged in epoch {epoch} (the loss is no number); lower the"
                    " learning rate"
                )
            with average_weights(network, optimizer, config):
                output = run_network(call, inputs)
                weights = [np.array(variable) for variable in network.variables]
            error = objective.predict(output) - true
            seconds = time.perf_counter() - start
            record = {
                "epoch": epoch,
                "loss": loss,
                "validation_loss": objective.measure_loss(output, true),
                "validation_mae": float(np.abs(error).mean()),
                "samples_per_second": len(order) / trained,
                "seconds": seconds,
            }
            history.append(record)
            if config.patience and _find_best(history) == epoch - 1:
                best = weights
            write_checkpoint(folder, network, optimizer, config, history, best=best)
            left = (config.epochs - epoch) * seconds / 60
            message = (
                f"loss {loss:.6f}, validation loss {record['validation_loss']:.6f},"
                f" validation MAE {record['validation_mae']:.5f},"
                f" {record['samples_per_second']:.0f} samples/s, {left:.0f} min left"
            )
            bar.set_postfix_str(  # at 80 columns what comes last is cut
                f"MAE {record['validation_mae']:.5f}, loss {loss:.4f}, {left:.0f} min left"
            )
        logger.info("epoch %d/%d: %s", epoch, config.epochs, message)
    if config.patience and best is not None:
        logger.info("the weights of epoch %d are kept", _find_best(history) + 1)
        set_weights(network, best)
    elif config.weight_average:
        optimizer.finalize_variable_values(network.trainable_variables)
    return network, history


def _find_best(history: list[dict[str, float]]) -> int:
    """Return the number, from 0, of the first epoch with the smallest validation loss."""
    return int(np.argmin([record["validation_loss"] for record in history]))


def _is_over(history: list[dict[str, float]], patience: int) -> bool:
    """Tell whether the validation loss has not fallen for so many epochs."""
    return bool(patience and history) and len(history) - 1 - _find_best(history) >= patience
