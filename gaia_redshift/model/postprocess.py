"""From what a network returns to redshifts and flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import QualityFlag

__all__ = ["Prediction", "flag_distributions", "flag_redshifts"]

Float = NDArray[np.float64]

_WIDE = 0.05
"""Half of the 68 % interval, over 1 + redshift, from which a distribution counts as wide."""
_PEAK = 0.2
"""Bins with less than this part of the highest one's probability separate peaks."""
_SECOND = 0.1
"""Smallest share of other peaks that counts."""
_FAR = 0.05
"""Distance from the highest peak, over 1 + redshift, at which they do: noise that looks like a
feature makes peaks 0.02 apart in most distributions, which an interval describes well enough."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about n sources.

    Parameters
    ----------
    redshift : ndarray, shape (n,), float64
        NaN where a flux was not finite. The median, from models that give distributions.
    flags : ndarray, shape (n,), int32
        The `gaia_redshift.flags.QualityFlag` bits that a model sets, to be joined with those of
        the vectors.
    lower, upper : ndarray, shape (n,), float64, or None
        16th and 84th percentile, from models that give distributions.
    std : ndarray, shape (n,), float64, or None
        Standard deviation of the distribution, where asked for.
    pdf : ndarray, shape (n, m), float32, or None
        Probability density in bins of redshift, where asked for.
    edges : ndarray, shape (m + 1,), or None
        Edges of these bins.
    prior : str or None
        Name of the redshift distribution that was taken for the sky's.
    novelty : ndarray, shape (n,), float64, or None
        How unlike the training set's galaxies each is: above 1 it is flagged.
    probability_galaxy : ndarray, shape (n,), float64, or None
        Of being a galaxy rather than a star, a quasar or a blend, from models that tell.
    shape : ndarray, shape (n,), float64, or None
        The median under a flat prior, where asked for.
    """

    redshift: Float
    flags: NDArray[np.int32]
    lower: Float | None = None
    upper: Float | None = None
    std: Float | None = None
    pdf: NDArray[np.float32] | None = None
    edges: Float | None = None
    prior: str | None = None
    novelty: Float | None = None
    probability_galaxy: Float | None = None
    shape: Float | None = None

    def __len__(self) -> int:
        return len(self.redshift)


def flag_redshifts(
    excess: Float,
    redshift: Float,
    *,
    redshift_range: tuple[float, float],
    flux_tolerance: float,
) -> NDArray[np.int32]:
    """Return flags (n,) of rows where the model had to extrapolate.

    FLUX_OUT_OF_RANGE where ``excess`` (n,), how far outside the training part's fluxes a row lies
    in parts of their range, is above the tolerance; REDSHIFT_OUT_OF_RANGE beyond the training
    redshifts.
    """
    flags = np.zeros(len(redshift), dtype=np.int32)
    low, high = redshift_range
    flags[~((redshift >= low) & (redshift <= high))] |= QualityFlag.REDSHIFT_OUT_OF_RANGE
    flags[excess > flux_tolerance] |= QualityFlag.FLUX_OUT_OF_RANGE
    return flags


def measure_overlap(shape: NDArray[np.floating], prior: NDArray[np.floating]) -> Float:
    """Overlap of p(z | shape) with a prior, (n, m) each: the sum of the product's root, (n,).

    1 where they are the same, 0 where they share none.
    """
    product = shape * prior
    return np.asarray(np.sqrt(product, out=product).sum(axis=1), dtype=np.float64)


def flag_distributions(
    probability: NDArray[np.floating], edges: Float, lower: Float, median: Float, upper: Float
) -> NDArray[np.int32]:
    """Return flags (n,) of distributions (n, m) that touch an end, are wide, or have several peaks.

    ``lower``, ``median`` and ``upper`` (n,) are the 16th, 50th and 84th percentile.
    """
    flags = np.zeros(len(probability), dtype=np.int32)
    mode = probability.argmax(axis=1)
    at_edge = (mode == 0) | (mode == probability.shape[1] - 1)
    flags[at_edge | (lower < edges[1]) | (upper > edges[-2])] |= QualityFlag.REDSHIFT_AT_EDGE
    flags[upper - lower > 2 * _WIDE * (1 + median)] |= QualityFlag.WIDE_DISTRIBUTION
    highest = probability[np.arange(len(probability)), mode][:, None]
    high = probability > (_PEAK * highest).astype(probability.dtype)
    at = (0.5 * (edges[1:] + edges[:-1])).astype(probability.dtype)
    top = at[mode]
    first, last = high.argmax(axis=1), len(at) - 1 - high[:, ::-1].argmax(axis=1)
    several = np.flatnonzero(np.maximum(top - at[first], at[last] - top) > _FAR * (1 + top))
    if len(several):
        # Runs are numbered; the run of the highest bin holds most of what is high.
        high = high[several]
        starts = high & ~np.pad(high, ((0, 0), (1, 0)))[:, :-1]
        run = np.cumsum(starts, axis=1)
        part = np.where(high, probability[several], 0.0)
        main = run[np.arange(len(several)), mode[several]]
        top = top[several, None]
        other = (run != main[:, None]) & (np.abs(at - top) > _FAR * (1 + top))
        with np.errstate(invalid="ignore"):  # nothing is high of what a network has no number for
            share = np.where(other, part, 0.0).sum(axis=1) / part.sum(axis=1)
        flags[several[share > _SECOND]] |= QualityFlag.MULTIPLE_PEAKS
    return flags
