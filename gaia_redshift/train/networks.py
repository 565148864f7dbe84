"""Networks by name: how each is built, what it takes and returns, and what it is trained for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_FLUX
from gaia_redshift.metrics.points import find_bins
from gaia_redshift.model.distribution import compute_quantiles
from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.model.scaler import MinMaxScaler, NoiseScaler, Scaler
from gaia_redshift.train.config import TrainingConfig

__all__ = [
    "NETWORKS",
    "DistributionObjective",
    "Network",
    "Objective",
    "build_kiraleos2023",
    "build_residual",
    "freeze_layers",
    "get_network",
    "get_recipe",
    "measure_cross_entropy",
]

Float = NDArray[np.float64]

_BLUR = 0.6
"""Width of the Gaussian that spreads a true redshift over bins, in bins."""


def build_kiraleos2023(seed: int | None = None) -> Any:
    """Build the network of Kiraleos (2023): (n, 186, 1) scaled fluxes to (n, 1) redshifts.

    699,073 parameters: four convolutions (256, 256, 128, 64 filters; kernels of 5, 5, 3, 2; ReLU,
    no padding), each followed by max-pooling by 2; dense layers of 256, 256, 128, 64 (ReLU) and 1
    (linear). Initial weights are Glorot uniform.
    """
    keras = import_keras()
    layers = keras.layers
    counter = iter(range(100))

    def draw_weights() -> Any:
        # A seed per layer instead of Keras's global one: the caller's random state stays as it is.
        step = next(counter)
        return keras.initializers.GlorotUniform(seed=None if seed is None else 1000 * seed + step)

    # Names of their own: Keras's would count up through the process.
    stack = [keras.Input((N_FLUX, 1), name="flux")]
    for i, (filters, kernel) in enumerate(((256, 5), (256, 5), (128, 3), (64, 2)), start=1):
        stack.append(
            layers.Conv1D(
                filters,
                kernel,
                activation="relu",
                kernel_initializer=draw_weights(),
                name=f"convolution_{i}",
            )
        )
        stack.append(layers.MaxPooling1D(2, name=f"pooling_{i}"))
    stack.append(layers.Flatten(name="flatten"))
    for i, units in enumerate((256, 256, 128, 64), start=1):
        stack.append(
            layers.Dense(
                units, activation="relu", kernel_initializer=draw_weights(), name=f"dense_{i}"
            )
        )
    stack.append(layers.Dense(1, kernel_initializer=draw_weights(), name="redshift"))
    return keras.Sequential(stack, name="kiraleos2023")


def build_residual(
    seed: int | None = None,
    bins: int = 150,
    *,
    filters: int = 16,
    kernel: int = 9,
    stride: int = 3,
    units: int = 384,
    blocks: int = 3,
    dropout: float = 0.0,
) -> Any:
    """Build the residual network of the default model, about a million parameters.

    From ``flux`` (n, 186, 2) and ``context`` (n, 4), as ``NoiseScaler`` makes them, to logits (n,
    bins + 1): of each bin of redshift, and of being a galaxy. A convolution (16 filters, kernel of
    9, every third sample), a residual pair of convolutions (kernel of 5), then, flattened and with
    the context, a dense layer of ``units``, ``blocks`` residual pairs of dense layers (the first of
    each pair has two thirds of the units), and the logits. Residual pairs are pre-activated (He et
    al. 2016), with ReLU. ``dropout`` is the share of the inputs of the last layer of each dense
    pair that is hidden in training. Initial weights are Glorot uniform.
    """
    keras = import_keras()
    layers = keras.layers
    counter = iter(range(1000))

    def options(name: str) -> dict[str, Any]:
        step = next(counter)
        start = keras.initializers.GlorotUniform(seed=None if seed is None else 1000 * seed + step)
        return {"kernel_initializer": start, "name": name}

    def activate(x: Any, name: str) -> Any:
        return layers.Activation("relu", name=f"activation_{name}")(x)

    flux = keras.Input((N_FLUX, 2), name="flux")
    context = keras.Input((4,), name="context")
    x = layers.Conv1D(filters, kernel, strides=stride, padding="same", **options("convolution"))(
        flux
    )
    y = x
    for i in "ab":
        y = activate(y, f"convolution_{i}")
        y = layers.Conv1D(filters, 5, padding="same", **options(f"convolution_{i}"))(y)
    x = activate(layers.Add(name="sum_convolution")([x, y]), "convolution")
    x = layers.Concatenate(name="join")([context, layers.Flatten(name="flatten")(x)])
    x = layers.Dense(units, **options("dense"))(x)
    for number in range(1, blocks + 1):
        y = layers.Dense(max(1, 2 * units // 3), **options(f"dense_{number}a"))(
            activate(x, f"dense_{number}a")
        )
        y = activate(y, f"dense_{number}b")
        if dropout:
            hide = None if seed is None else 1000 * seed + 900 + number
            y = layers.Dropout(dropout, seed=hide, name=f"dropout_{number}")(y)
        y = layers.Dense(units, **options(f"dense_{number}b"))(y)
        x = layers.Add(name=f"sum_{number}")([x, y])
    x = layers.Dense(bins + 1, **options("logits"))(activate(x, "last"))
    return keras.Model([flux, context], x, name="residual")


class RedshiftObjective:
    """A redshift and the Huber loss, as in Kiraleos (2023)."""

    def __init__(self, config: TrainingConfig) -> None:
        self._delta = config.huber_delta

    def make_loss(self) -> Callable[[Any, Any], Any]:
        """Return a function of true redshifts (n,) and outputs: Keras's Huber loss."""
        measure = import_keras().losses.Huber(delta=self._delta)
        return lambda truth, output: measure(truth[:, None], output)

    def predict(self, output: NDArray[np.float32]) -> Float:
        """Return the one output."""
        return output[:, 0].astype(np.float64)

    def measure_loss(self, output: NDArray[np.float32], truth: Float) -> float:
        """Return the mean Huber loss."""
        size = np.abs(output[:, 0] - truth)
        delta = self._delta
        return float(np.where(size <= delta, 0.5 * size**2, delta * size - 0.5 * delta**2).mean())


class DistributionObjective:
    """A distribution over bins of redshift, and whether it is a galaxy at all.

    Both by their cross-entropy, a proper score. The last output is the logit of being a galaxy; it
    counts only in trainings that show something else as well.
    """

    def __init__(self, config: TrainingConfig, has_others: bool) -> None:
        self._galaxy_weight = 1.0 if has_others else 0.0
        self.edges = np.linspace(*config.redshift_range, config.bins + 1)
        self._centers = 0.5 * (self.edges[1:] + self.edges[:-1])
        self._blur = _BLUR * (self.edges[1] - self.edges[0])

    def make_loss(self) -> Callable[[Any, Any], Any]:
        """Return the cross-entropy with true redshifts spread over a bin or two."""
        import tensorflow as tf

        centers = tf.constant(self._centers[None], tf.float32)
        blur = float(self._blur)

        def measure(truth: Any, output: Any) -> Any:
            galaxy = tf.cast(truth >= 0.0, tf.float32)
            target = tf.nn.softmax(-0.5 * ((centers - truth[:, None]) / blur) ** 2, axis=-1)
            redshift = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=output[:, :-1])
            pass_loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=galaxy, logits=output[:, -1])
            return tf.reduce_mean(galaxy * redshift + self._galaxy_weight * pass_loss)

        return measure

    def predict(self, output: NDArray[np.float32]) -> Float:
        """Return medians under the training galaxies' redshift distribution."""
        logits = output[:, :-1]
        probability = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        probability /= probability.sum(axis=1, keepdims=True)
        return compute_quantiles(probability, self.edges, 0.5)[0]

    def measure_loss(self, output: NDArray[np.float32], truth: Float) -> float:
        """Return the mean cross-entropy with the bins of the true redshifts."""
        return measure_cross_entropy(output[:, :-1], find_bins(truth, self.edges))


Objective = RedshiftObjective | DistributionObjective
"""Compares outputs of a network with true redshifts."""


def measure_cross_entropy(logits: NDArray[np.floating], bins: NDArray[np.intp]) -> float:
    """Mean of -ln p of the given bins, from logits, shape (n, m)."""
    values = logits.astype(np.float64)
    largest = values.max(axis=1)
    total = largest + np.log(np.exp(values - largest[:, None]).sum(axis=1))
    return float((total - values[np.arange(len(values)), bins]).mean())


@dataclass(frozen=True)
class Network:
    """A network that can be trained.

    ``build`` makes a Keras model of the seed of the initial weights, the number of bins and options
    by name; ``options`` gives their least and largest values; ``scaler`` prepares the inputs. With
    ``distribution`` it returns logits of bins of redshift, else a redshift. ``recipe`` is what its
    training differs in from the defaults of `TrainingConfig`.
    """

    build: Callable[..., Any]
    scaler: type[Scaler]
    distribution: bool
    options: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uses_errors(self) -> bool:
        """Whether flux errors change its predictions."""
        return self.scaler is NoiseScaler

    @property
    def defaults(self) -> dict[str, Any]:
        """The usual layout."""
        parameters = inspect.signature(self.build).parameters
        return {name: parameters[name].default for name in self.options}

    def make_objective(self, config: TrainingConfig, has_others: bool) -> Objective:
        """Return what it is trained for; ``has_others``: the training shows what is no galaxy."""
        if self.distribution:
            return DistributionObjective(config, has_others)
        return RedshiftObjective(config)

    def check_options(self, options: Mapping[str, float]) -> None:
        """Refuse options that the network does not have, or values outside their range."""
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(self.options) or "it has none"
                raise InputError(f"unknown option {name!r} of the network; known: {known}")
            low, high = self.options[name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise InputError(f"{name} must be from {low:g} to {high:g}, not {value!r}")
            if isinstance(low, int) and not isinstance(value, int):
                raise InputError(f"{name} must be a whole number, not {value!r}")


_RESIDUAL_OPTIONS = {
    "filters": (1, 512),
    "kernel": (1, 99),
    "stride": (1, 31),
    "units": (2, 8192),
    "blocks": (0, 50),
    "dropout": (0.0, 0.9),
}
_RESIDUAL_RECIPE = {
    "name": "residual",
    "network": "residual",
    "epochs": 8,
    "batch_size": 256,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "schedule": "cosine",
    "weight_decay": 1e-4,
    "weight_average": 0.999,
    "split": (0.9, 0.05, 0.05),
    "grid_jitter": 0.4,
    "error_jitter": 0.25,
    "bins": 300,
}

NETWORKS = {
    "kiraleos2023": Network(lambda seed, _: build_kiraleos2023(seed), MinMaxScaler, False),
    "residual": Network(build_residual, NoiseScaler, True, _RESIDUAL_OPTIONS, _RESIDUAL_RECIPE),
}
"""Networks by the name that a configuration gives."""


def get_network(name: str) -> Network:
    """Return the network of this name; `InputError` if there is none."""
    if name not in NETWORKS:
        raise InputError(f"no network named {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]


def get_recipe(network: str) -> dict[str, Any]:
    """Return the options with which a network is usually trained; `InputError` if there is none."""
    return dict(get_network(network).recipe)


def freeze_layers(network: Any, names: Sequence[str]) -> list[str]:
    """Keep layers, by names or their beginnings, as they are in a training; return their names.

    Raises `InputError` if one fits no layer, or if nothing would be left to train.
    """
    layers = [layer for layer in network.layers if layer.weights]
    known = ", ".join(layer.name for layer in layers)
    frozen = []
    for name in names:
        found = [layer for layer in layers if layer.name.startswith(name)]
        if not found:
            raise InputError(f"no layer's name begins with {name!r}; layers: {known}")
        for layer in found:
            layer.trainable = False
            frozen.append(layer.name)
    if not network.trainable_variables:
        raise InputError(f"all layers are frozen, nothing is left to train; layers: {known}")
    return frozen
