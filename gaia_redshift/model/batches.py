"""Cut the inputs of a network into batches, in the shapes that it wants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError

__all__ = ["Inputs", "check_shapes", "iterate_batches"]

Inputs = NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
"""Inputs by name, or the one array of a network with one input; shape (n, ...) each."""


def check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], name: str
) -> None:
    """Compare a network's inputs with those that it will get; `ModelError` if they differ.

    (186,) may go into (186, 1), and the name of a single input does not matter.
    """
    pairs = list(zip(found.values(), expected.values(), strict=False))
    same_names = len(found) == 1 or set(found) == set(expected)
    if len(found) > 1 and same_names:
        pairs = [(found[key], expected[key]) for key in expected]
    if (
        len(found) != len(expected)
        or not same_names
        or any(_strip(a) != _strip(b) for a, b in pairs)
    ):
        raise ModelError(
            f"{name}: a network here maps inputs {_describe(expected)} to (n, m), this one takes"
            f" {_describe(found)}"
        )


def _strip(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _describe(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(
        f"{name} ({', '.join(['n', *map(str, shape)])})" for name, shape in shapes.items()
    )


def iterate_batches(
    inputs: Inputs, shapes: Mapping[str, tuple[int, ...]], size: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the inputs in pieces of up to ``size`` rows; without rows, one empty piece."""
    if not isinstance(inputs, Mapping):
        inputs = dict.fromkeys(shapes, inputs) if len(shapes) == 1 else {"": inputs}
    elif len(shapes) == 1 and len(inputs) == 1:
        inputs = dict(zip(shapes, inputs.values(), strict=True))
    if set(inputs) != set(shapes):
        raise ValueError(f"the network takes {', '.join(shapes)}")
    arrays = {
        key: np.ascontiguousarray(inputs[key], np.float32).reshape(len(inputs[key]), *shape)
        for key, shape in shapes.items()
    }
    n = len(next(iter(arrays.values())))
    if any(len(array) != n for array in arrays.values()):
        raise ValueError("the inputs of a network must have the same number of rows")
    for start in range(0, max(n, 1), size):
        yield {key: array[start : start + size] for key, array in arrays.items()}
