"""Steps of a training: the optimiser, batches, and many steps in one compiled call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.dataset import TrainingSet
from gaia_redshift.train.objectives import Objective

__all__ = [
    "average_weights",
    "compile_steps",
    "cut_epoch",
    "make_optimizer",
    "open_bar",
    "run_epoch",
    "set_weights",
]

_STEPS_PER_CALL = 64
"""Steps inside one compiled call: enough to hide Python's cost, few enough to show progress."""
_SPECTRA_PER_CALL = 8192
"""Their inputs are made at once."""
_AVERAGES = 10
"""An average of weights reaches over a training's steps divided by this, at most."""


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
        for variable, value in zip(variables, latest, strict=True):
            variable.assign(value)


def open_bar(epoch: int, epochs: int, total: int, progress: bool) -> Any:
    """Return an epoch's progress bar."""
    from gaia_redshift._display import open_bar

    return open_bar(
        total=total,
        desc=f"epoch {epoch}/{epochs}",
        unit="spectra",
        unit_scale=True,
        mininterval=1.0,
        disable=not progress,
        bar_format="{desc}: {percentage:3.0f}%|{bar:10}| {elapsed} {postfix}",
    )


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


def set_weights(network: Any, values: list[NDArray[Any]]) -> None:
    """Give a network the weights that ``[np.array(v) for v in network.variables]`` took."""
    for variable, value in zip(network.variables, values, strict=True):
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
