"""Choose rows of arrays, and multiply them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_slice", "multiply_rows"]

_PRODUCT_ROWS = 32
"""Rows of one product of rows and a matrix."""
_PRODUCT_SIZE = 1 << 18
"""Largest product (rows times columns times terms) that OpenBLAS does not share among threads."""


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
    terms = max(_PRODUCT_SIZE // (_PRODUCT_ROWS * m), 1)
    out = np.empty((n, m))
    stacked = rows[:whole].reshape(many, _PRODUCT_ROWS, k)
    np.matmul(stacked[..., :terms], matrix[:terms], out=out[:whole].reshape(many, _PRODUCT_ROWS, m))
    np.matmul(rows[whole:, :terms], matrix[:terms], out=out[whole:])
    for start in range(terms, k, terms):
        part = slice(start, start + terms)
        out[:whole] += np.matmul(stacked[..., part], matrix[part]).reshape(whole, m)
        out[whole:] += rows[whole:, part] @ matrix[part]
    return out
