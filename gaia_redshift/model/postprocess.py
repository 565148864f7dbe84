"""From what a network returns to redshifts and flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import QualityFlag

__all__ = ["Prediction", "flag_predictions"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about n sources.

    Parameters
    ----------
    redshift : ndarray, shape (n,), float64
        NaN where a flux was not finite.
    flags : ndarray, shape (n,), int32
        The `gaia_redshift.flags.QualityFlag` bits that a model sets (REDSHIFT_OUT_OF_RANGE,
        FLUX_OUT_OF_RANGE), to be joined with those of the vectors.
    lower, upper : ndarray, shape (n,), float64, or None
        16th and 84th percentile, from models that give them.
    """

    redshift: NDArray[np.float64]
    flags: NDArray[np.int32]
    lower: NDArray[np.float64] | None = None
    upper: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.redshift)


def flag_predictions(
    scaled: NDArray[np.float32],
    redshift: NDArray[np.float64],
    *,
    redshift_range: tuple[float, float],
    flux_tolerance: float,
) -> NDArray[np.int32]:
    """Mark rows where the model had to extrapolate.

    Parameters
    ----------
    scaled : ndarray, shape (n, 186)
        Fluxes on the scale where the training part spans 0..1 in each column.
    redshift : ndarray, shape (n,)
        As predicted.
    redshift_range : tuple of float
        Range of the training redshifts; REDSHIFT_OUT_OF_RANGE beyond it.
    flux_tolerance : float
        FLUX_OUT_OF_RANGE where any scaled flux lies below ``-flux_tolerance`` or above
        ``1 + flux_tolerance``: brighter or fainter, in that column, than every training galaxy by
        this part of the column's spread.

    Returns
    -------
    ndarray, shape (n,), int32
    """
    flags = np.zeros(len(redshift), dtype=np.int32)
    low, high = redshift_range
    flags[~((redshift >= low) & (redshift <= high))] |= QualityFlag.REDSHIFT_OUT_OF_RANGE
    if len(redshift):
        outside = (scaled.min(axis=1) < -flux_tolerance) | (scaled.max(axis=1) > 1 + flux_tolerance)
        flags[outside] |= QualityFlag.FLUX_OUT_OF_RANGE
    return flags
