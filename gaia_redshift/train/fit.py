"""Train a network: `train_model`, from spectra with true redshifts to a model folder."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.grid import DEFAULT_GRID, N_FLUX, SamplingGrid
from gaia_redshift.model.engine import compile_network, import_keras
from gaia_redshift.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet, prepare_dataset
from gaia_redshift.train.export import write_frozen_vectors, write_model
from gaia_redshift.train.networks import NETWORKS, build_network
from gaia_redshift.train.sources import collect_vectors

__all__ = ["train_model"]

logger = logging.getLogger(__name__)

_STEPS_PER_CALL = 64
"""Steps inside one compiled call: enough to hide Python's cost, few enough to show progress."""
_EVALUATION_BATCH = 1024


@preserve_settings()
def train_model(
    source: Any,
    *,
    output: str | os.PathLike[str],
    config: TrainingConfig | None = None,
    truth: str = "redshift_true",
    grid: SamplingGrid = DEFAULT_GRID,
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
    source : path, table, XPSpectra, list of these, SimulatedGalaxies, or (FluxVectors, redshifts)
        Spectra in any form that `gaia_redshift.read_spectra` reads, with a column of true
        redshifts; galaxies to simulate; or vectors with their redshifts, shape (n,).
    output : path
        The model's folder; must not exist yet.
    config : TrainingConfig, optional
        The recipe of Kiraleos (2023) by default.
    truth : str
        Name of the column of true redshifts.
    grid : SamplingGrid
        Where to sample; vectors keep their own grid.
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
        If the training diverges.
    """
    config = config or TrainingConfig()
    target = Path(output)
    if target.exists():
        raise InputError(f"{target} exists already; choose another folder for the model")
    if config.network not in NETWORKS:
        build_network(config.network)  # raises, before anything is read
    folder = Path(run_dir) if run_dir is not None else target.with_name(target.name + ".run")
    found = read_checkpoint(folder)
    if found is not None and not resume:
        raise InputError(
            f"{folder} holds a run of {len(found.history)} epochs: resume it (--resume), delete it"
            " or choose another run folder (--run-dir)"
        )
    if found is not None:
        _check_same_config(found, config, folder)
    folder.mkdir(parents=True, exist_ok=True)

    if isinstance(source, tuple) and hasattr(source[0], "grid"):
        grid = source[0].grid
    vectors = collect_vectors(
        source,
        folder,
        truth=truth,
        grid=grid,
        jitter_seed=config.seed if config.grid_jitter else None,
        progress=progress,
    )
    dataset = prepare_dataset(vectors, config)
    network, history = _fit(dataset, config, folder, found, progress)
    predicted = _predict(compile_network(network, N_FLUX), dataset.get_inputs("test"))
    write_frozen_vectors(folder, dataset, predicted)
    write_model(
        target,
        network=network,
        dataset=dataset,
        config=config,
        grid=grid,
        predicted=predicted,
        history=history,
        command=command,
    )
    return target


def _check_same_config(found: Checkpoint, config: TrainingConfig, folder: Path) -> None:
    stored, given = found.config, config.to_dict()
    if config.epochs < len(found.history):
        raise InputError(
            f"{folder}: this run has already done {len(found.history)} epochs, more than the"
            f" {config.epochs} asked for"
        )
    # Neither words on the model nor more epochs change what was done so far.
    free = {"name", "version", "description", "epochs", "flux_tolerance"}
    for key in given:
        if key not in free and stored.get(key) != given[key]:
            raise InputError(
                f"{folder}: this run was begun with {key} {stored.get(key)!r}, not"
                f" {given[key]!r}; give the same or choose another run folder"
            )


def _fit(
    dataset: TrainingSet,
    config: TrainingConfig,
    folder: Path,
    found: Checkpoint | None,
    progress: bool,
) -> tuple[Any, list[dict[str, float]]]:
    """Run the epochs that are still to do; return the network and the history."""
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        raise ModelError("training needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    network = build_network(config.network, config.seed)
    optimizer = keras.optimizers.Adamax(learning_rate=config.learning_rate)
    optimizer.build(network.trainable_variables)
    history: list[dict[str, float]] = []
    if found is not None:
        found.restore(network, optimizer)
        history = found.history
        logger.info("resumed after epoch %d from %s", len(history), folder)

    inputs = dataset.get_inputs("train")
    truth = dataset.get_redshifts("train").astype(np.float32)
    run_steps = _compile_steps(network, optimizer, config, tf.constant(inputs), tf.constant(truth))
    validation = dataset.get_inputs("validation"), dataset.get_redshifts("validation")
    call = compile_network(network, N_FLUX)
    for epoch in range(len(history) + 1, config.epochs + 1):
        start = time.perf_counter()
        order = np.random.default_rng([config.seed, epoch]).permutation(len(truth))
        bar = _open_bar(epoch, config.epochs, len(truth), progress)
        with bar:
            total, done = 0.0, 0
            for batches in _cut(order.astype(np.int32), config.batch_size):
                total += float(run_steps(tf.constant(batches)))
                done += batches.size
                bar.set_postfix_str(f"loss {total / done:.6f}", refresh=False)
                bar.update(batches.size)
            loss = total / len(truth)
            trained = time.perf_counter() - start
            if not math.isfinite(loss):
                raise ModelError(
                    f"the training diverged in epoch {epoch} (the loss is no number); lower the"
                    " learning rate"
                )
            error = _predict(call, validation[0]) - validation[1]
            seconds = time.perf_counter() - start
            record = {
                "epoch": epoch,
                "loss": loss,
                "validation_loss": _mean_huber(error, config.huber_delta),
                "validation_mae": float(np.abs(error).mean()),
                "samples_per_second": len(truth) / trained,
                "seconds": seconds,
            }
            history.append(record)
            write_checkpoint(folder, network, optimizer, config, history)
            left = (config.epochs - epoch) * seconds / 60
            message = (
                f"loss {loss:.6f}, validation loss {record['validation_loss']:.6f},"
                f" validation MAE {record['validation_mae']:.5f},"
                f" {record['samples_per_second']:.0f} samples/s, {left:.0f} min left"
            )
            bar.set_postfix_str(message)
        logger.info("epoch %d/%d: %s", epoch, config.epochs, message)
    return network, history


def _open_bar(epoch: int, epochs: int, total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=f"epoch {epoch}/{epochs}",
        unit="spectra",
        unit_scale=True,
        mininterval=1.0,
        disable=not progress,
        bar_format="{desc}: {percentage:3.0f}%|{bar:20}| {elapsed} {postfix}",
    )


def _cut(order: NDArray[np.int32], batch_size: int) -> list[NDArray[np.int32]]:
    """Cut the order into calls of whole batches, and one of the rest."""
    whole = len(order) // batch_size
    batches = order[: whole * batch_size].reshape(whole, batch_size)
    calls = [batches[i : i + _STEPS_PER_CALL] for i in range(0, whole, _STEPS_PER_CALL)]
    if whole * batch_size < len(order):
        calls.append(order[None, whole * batch_size :])
    return calls


def _compile_steps(
    network: Any, optimizer: Any, config: TrainingConfig, inputs: Any, truth: Any
) -> Any:
    """Return a compiled function: rows (steps, batch) -> sum of the loss over those spectra.

    One call runs many steps. Compared on two cores at batch 16: this loop is as fast as or faster
    than Keras's ``fit`` with ``steps_per_execution``; XLA takes more than twice as long.
    """
    import keras
    import tensorflow as tf

    measure_loss = keras.losses.Huber(delta=config.huber_delta)
    variables = network.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def run_steps(batches: Any) -> Any:
        total = tf.zeros(())
        for i in tf.range(tf.shape(batches)[0]):
            rows = batches[i]
            with tf.GradientTape() as tape:
                output = network(tf.gather(inputs, rows)[..., None], training=True)
                loss = measure_loss(tf.gather(truth, rows)[:, None], output)
            optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss * tf.cast(tf.size(rows), tf.float32)
        return total

    return run_steps


def _predict(call: Any, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Redshifts, shape (n,), of scaled fluxes, shape (n, 186), by a compiled network."""
    batches = [
        call(inputs[i : i + _EVALUATION_BATCH])[:, 0]
        for i in range(0, len(inputs), _EVALUATION_BATCH)
    ]
    return np.concatenate(batches).astype(np.float64)


def _mean_huber(error: NDArray[np.float64], delta: float) -> float:
    size = np.abs(error)
    return float(np.where(size <= delta, 0.5 * size**2, delta * size - 0.5 * delta**2).mean())
