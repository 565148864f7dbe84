"""Choose rows of arrays, and multiply them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_slice", "multiply_rows"]

_PRODUCT_ROWS = 40
"""Rows of one product of rows and a matrix."""


def as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return consecutive rows as a slice, which costs no copy."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def multiply_rows(rows: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``rows @ matrix``, by products so small that BLAS stays in this thread.

    Its other threads would go on spinning for milliseconds, which the network's need.
    """
    n, k = rows.shape
    m = matrix.shape[1]
    many = n // _PRODUCT_ROWS
    whole = many * _PRODUCT_ROWS
    out = np.empty((n, m))
    stacked = rows[:whole].reshape(many, _PRODUCT_ROWS, k)
    np.matmul(stacked, matrix, out=out[:whole].reshape(many, _PRODUCT_ROWS, m))
    np.matmul(rows[whole:], matrix, out=out[whole:])
    return out
