"""The simulated galaxy whose spectrum is nearest: something to hold an observed one against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.spectra import FluxVectors

__all__ = ["Nearest", "find_nearest"]

Float = NDArray[np.float64]

_SEED = 20261
_SHARE = 0.01
"""Relative error that is added: no simulated galaxy describes an observed one to the last digit."""
_ROWS = 256


@dataclass(frozen=True)
class Nearest:
    """For each of n spectra the nearest of the simulated galaxies.

    Parameters
    ----------
    flux : ndarray, shape (n, 186), e-/s per sample
        Without noise, scaled to the observed one; NaN where that has no fluxes.
    redshift : ndarray, shape (n,)
    deviation : ndarray, shape (n,)
        Mean square of (observed - simulated) / error.
    """

    flux: Float
    redshift: Float
    deviation: Float


def find_nearest(vectors: FluxVectors, n_simulated: int) -> Nearest:
    """Find the nearest of so many simulated galaxies, evenly spread over redshift.

    Nearest is the smallest sum of squares in units of the flux errors (each taken as independent,
    a hundredth of the flux added), after scaling; without errors, in units of the mean flux.
    """
    from gaia_redshift.sampling import sample_spectra
    from gaia_redshift.simulate import simulate_spectra

    galaxies = simulate_spectra(
        n_simulated, seed=_SEED, survey="flat", noise=False, correlations=False
    )
    truth = np.asarray(galaxies.columns["redshift_true"], dtype=np.float64)  # type: ignore[index]
    templates = np.asarray(
        sample_spectra(galaxies, grid=vectors.grid, errors=False).flux, dtype=np.float64
    )
    n = len(vectors)
    found = Nearest(np.full(vectors.flux.shape, np.nan), np.full(n, np.nan), np.full(n, np.nan))
    usable = np.flatnonzero(np.isfinite(vectors.flux).all(axis=1))
    for start in range(0, len(usable), _ROWS):
        rows = usable[start : start + _ROWS]
        flux = np.asarray(vectors.flux[rows], dtype=np.float64)
        weight = 1.0 / _measure_variance(vectors, rows, flux)
        squared = np.maximum(weight @ (templates**2).T, np.finfo(float).tiny)
        product = (weight * flux) @ templates.T
        gain = np.where(product > 0, product**2 / squared, 0.0)
        best = gain.argmax(axis=1)
        each = np.arange(len(rows))
        scale = product[each, best] / squared[each, best]
        found.flux[rows] = scale[:, None] * templates[best]
        found.redshift[rows] = truth[best]
        found.deviation[rows] = np.mean(weight * (flux - found.flux[rows]) ** 2, axis=1)
    return found


def _measure_variance(vectors: FluxVectors, rows: NDArray[np.intp], flux: Float) -> Float:
    mean = np.maximum(np.abs(flux).mean(axis=1, keepdims=True), np.finfo(float).tiny)
    variance = np.full(flux.shape, 1.0) * (0.05 * mean) ** 2
    if vectors.flux_error is not None:
        errors = np.asarray(vectors.flux_error[rows], dtype=np.float64)
        known = (np.isfinite(errors) & (errors > 0)).all(axis=1)
        variance[known] = errors[known] ** 2 + (_SHARE * mean[known]) ** 2
    return variance
