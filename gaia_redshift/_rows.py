"""Choose rows of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_slice"]


def as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return consecutive rows as a slice, which costs no copy."""
    if len(rows) and int(rows[-1]) - int(rows[0]) + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
