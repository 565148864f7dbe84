"""Networks by name. Each takes the seed of its initial weights and returns a Keras model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_FLUX
from gaia_redshift.model.engine import import_keras

__all__ = ["NETWORKS", "build_kiraleos2023", "build_network"]


def build_kiraleos2023(seed: int | None = None) -> Any:
    """Build the convolutional network of Kiraleos (2023), 699,073 parameters.

    Four convolutions (256, 256, 128, 64 filters; kernels of 5, 5, 3, 2; ReLU, no padding), each
    followed by max-pooling by 2; dense layers of 256, 256, 128, 64 (ReLU) and 1 (linear).

    Parameters
    ----------
    seed : int, optional
        Of the initial weights (Glorot uniform, Keras's default); random without.

    Returns
    -------
    keras.Sequential
        From (n, 186, 1) scaled fluxes to (n, 1) redshifts.
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


NETWORKS: dict[str, Callable[[int | None], Any]] = {"kiraleos2023": build_kiraleos2023}
"""Builders by the name that a configuration gives."""


def build_network(name: str, seed: int | None = None) -> Any:
    """Build the network of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in NETWORKS:
        raise InputError(f"no network named {name!r}; known: {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name](seed)
