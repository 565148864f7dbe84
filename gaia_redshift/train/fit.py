"""Fit a network: epochs of many steps in one compiled call, and the run's state after each."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift._files import written_whole
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model.keras_engine import compile_network, import_keras
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.finish import run_network
from gaia_redshift.train.networks import Objective

__all__ = ["Checkpoint", "fit_network", "read_checkpoint", "write_checkpoint"]

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.npz"
_STEPS_PER_CALL = 64
"""Steps inside one compiled call: enough to hide Python's cost, few enough to show progress."""
_SPECTRA_PER_CALL = 8192
"""Their inputs are made at once."""
_AVERAGES = 10
"""An average of weights reaches over a training's steps divided by this, at most."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights, optimiser state and history after the last complete epoch."""

    path: Path
    network: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    config: dict[str, Any]
    history: list[dict[str, float]]
    best: list[NDArray[Any]] | None = None

    def restore(self, network: Any, optimizer: Any) -> None:
        """Put the state into a network and optimiser of the same configuration.

        Raises `InputError` if they are built otherwise.
        """
        for variables, values in (
            (network.variables, self.network),
            (optimizer.variables, self.optimizer),
        ):
            if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
                raise InputError(f"{self.path}: this checkpoint is of another network; start anew")
            _assign(variables, values)


def write_checkpoint(
    folder: Path,
    network: Any,
    optimizer: Any,
    config: TrainingConfig,
    history: list[dict[str, float]],
    *,
    best: list[NDArray[Any]] | None = None,
) -> None:
    """Write the state and ``history.csv``; an interruption leaves the older state intact.

    ``best`` are the network's weights after the epoch with the smallest validation loss.
    """
    arrays: dict[str, Any] = {
        "state": np.array(json.dumps({"config": config.to_dict(), "history": history}))
    }
    arrays |= {f"network_{i:03d}": np.asarray(v) for i, v in enumerate(network.variables)}
    arrays |= {f"optimizer_{i:03d}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    arrays |= {f"best_{i:03d}": value for i, value in enumerate(best or [])}
    with written_whole(folder / _CHECKPOINT) as part, part.open("wb") as stream:
        np.savez(stream, **arrays)
    with (folder / "history.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the state in a run's folder; None if there is none.

    Raises `InputError` if the file is damaged.
    """
    path = folder / _CHECKPOINT
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            state = json.loads(str(content["state"]))
            groups = {
                group: [content[key] for key in sorted(content.files) if key.startswith(group)]
                for group in ("network_", "optimizer_", "best_")
            }
        return Checkpoint(
            path,
            groups["network_"],
            groups["optimizer_"],
            state["config"],
            state["history"],
            groups["best_"] or None,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: the checkpoint is damaged; delete the run folder") from None


def fit_network(
    network: Any,
    dataset: TrainingSet,
    config: TrainingConfig,
    objective: Objective,
    *,
    folder: Path,
    found: Checkpoint | None,
    progress: bool,
) -> list[dict[str, float]]:
    """Run a network's epochs that are still to do; return the history.

    ``folder`` is the checkpoint's, ``found`` that of a run to go on with.
    """
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
        with open_bar(
            total=len(order),
            desc=f"epoch {epoch}/{config.epochs}",
            unit="spectra",
            unit_scale=True,
            mininterval=1.0,
            disable=not progress,
            bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {elapsed} {postfix}",
        ) as bar:
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
        _assign(network.variables, best)
    elif config.weight_average:
        optimizer.finalize_variable_values(network.trainable_variables)
    return history


def _find_best(history: list[dict[str, float]]) -> int:
    """Return the number, from 0, of the first epoch with the smallest validation loss."""
    return int(np.argmin([record["validation_loss"] for record in history]))


def _is_over(history: list[dict[str, float]], patience: int) -> bool:
    """Tell whether the validation loss has not fallen for so many epochs."""
    return bool(patience and history) and len(history) - 1 - _find_best(history) >= patience


def make_optimizer(config: TrainingConfig, steps: int) -> Any:
    """Return Keras's optimiser for a training of so many steps."""
    keras = import_keras()
    rate: Any = config.learning_rate
    if config.schedule == "cosine":
        warm_up = max(1, min(500, steps // 10))
        rate = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, steps - warm_up),
            alpha=0.01,
            warmup_target=config.learning_rate,
            warmup_steps=warm_up,
        )
    options: dict[str, Any] = {}
    if config.weight_average:
        # Of a short training, an average over many steps would still be the initial weights.
        longest = max(0.0, 1 - _AVERAGES / max(1, steps))
        options = {"use_ema": True, "ema_momentum": min(config.weight_average, longest)}
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(
            rate, weight_decay=config.weight_decay, global_clipnorm=1.0, **options
        )
    return keras.optimizers.Adamax(rate, **options)


@contextmanager
def average_weights(network: Any, optimizer: Any, config: TrainingConfig) -> Iterator[None]:
    """Put the average of the weights in their place for a while."""
    if not config.weight_average:
        yield
        return
    variables = network.trainable_variables
    latest = [np.array(variable) for variable in variables]
    optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        _assign(variables, latest)


def run_epoch(
    run_steps: Any,
    dataset: TrainingSet,
    order: NDArray[np.intp],
    rng: np.random.Generator,
    config: TrainingConfig,
    *,
    bar: Any,
) -> float:
    """Show the rows in this order to the network; return their mean loss."""
    total, done = 0.0, 0
    for batches in cut_epoch(order, config.batch_size):
        drawn = dataset.draw_inputs(batches.ravel(), rng, config)
        inputs = {
            name: values.reshape(*batches.shape, *values.shape[1:])
            for name, values in drawn.items()
        }
        truth = dataset.get_targets(batches)
        total += float(run_steps(inputs, truth))
        done += batches.size
        bar.set_postfix_str(f"loss {total / done:.6f}", refresh=False)
        bar.update(batches.size)
    return total / len(order)


def _assign(variables: Any, values: list[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def cut_epoch(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    """Cut the order into calls of whole batches, and one of the rest."""
    whole = len(order) // batch_size
    batches = order[: whole * batch_size].reshape(whole, batch_size)
    steps = max(1, min(_STEPS_PER_CALL, _SPECTRA_PER_CALL // batch_size))
    calls = [batches[i : i + steps] for i in range(0, whole, steps)]
    if whole * batch_size < len(order):
        calls.append(order[None, whole * batch_size :])
    return calls


def compile_steps(network: Any, optimizer: Any, objective: Objective) -> Any:
    """Return a compiled function: inputs and truth (steps, batch) -> sum of the loss.

    As fast as Keras's ``fit`` with ``steps_per_execution``, or faster; XLA takes twice as long.
    """
    import tensorflow as tf

    measure_loss = objective.make_loss()
    variables = network.trainable_variables
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in network.inputs}

    @tf.function(reduce_retracing=True)
    def run_steps(inputs: Any, truth: Any) -> Any:
        total = tf.zeros(())
        for i in tf.range(tf.shape(truth)[0]):
            size = tf.shape(truth)[1]
            values = [tf.reshape(inputs[name][i], (size, *shape)) for name, shape in shapes.items()]
            with tf.GradientTape() as tape:
                output = network(values if len(values) > 1 else values[0], training=True)
                loss = measure_loss(truth[i], output)
            optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss * tf.cast(size, tf.float32)
        return total

    return lambda inputs, truth: run_steps(
        {name: tf.constant(inputs[name]) for name in shapes}, tf.constant(truth)
    )
