"""Networks by name: how each is built, and what it takes and returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_FLUX
from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.model.scaler import MinMaxScaler, NoiseScaler

__all__ = ["NETWORKS", "Network", "build_kiraleos2023", "build_residual", "get_network"]


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


@dataclass(frozen=True)
class Network:
    """A network that can be trained.

    ``build`` makes a Keras model of the seed of the initial weights, the number of bins and options
    by name; ``options`` gives their least and largest values; ``scaler`` prepares the inputs. With
    ``distribution`` it returns logits of bins of redshift, else a redshift.
    """

    build: Callable[..., Any]
    scaler: type[MinMaxScaler] | type[NoiseScaler]
    distribution: bool
    options: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def uses_errors(self) -> bool:
        """Whether flux errors change its predictions."""
        return self.scaler is NoiseScaler

    @property
    def defaults(self) -> dict[str, Any]:
        """The usual layout."""
        parameters = inspect.signature(self.build).parameters
        return {name: parameters[name].default for name in self.options}

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

NETWORKS = {
    "kiraleos2023": Network(lambda seed, _: build_kiraleos2023(seed), MinMaxScaler, False),
    "residual": Network(build_residual, NoiseScaler, True, _RESIDUAL_OPTIONS),
}
"""Networks by the name that a configuration gives."""


def get_network(name: str) -> Network:
    """Return the network of this name; `InputError` if there is none."""
    if name not in NETWORKS:
        raise InputError(f"no network named {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]
