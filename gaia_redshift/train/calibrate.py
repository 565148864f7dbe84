"""Make distributions honest on galaxies that the network was not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.model.distribution import RedshiftBins, smooth_density
from gaia_redshift.train.objectives import measure_cross_entropy

__all__ = ["calibrate_bins", "fit_temperature"]

_RANGE = (0.5, 3.0)


def fit_temperature(logits: NDArray[np.floating], bins: NDArray[np.intp]) -> float:
    """Return the number to divide logits by that gives held-out galaxies the best cross-entropy.

    Method: temperature scaling (Guo et al. 2017).

    Parameters
    ----------
    logits : ndarray, shape (n, m)
    bins : ndarray of int, shape (n,)
        Bin of each true redshift.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda t: measure_cross_entropy(logits / t, bins), bounds=_RANGE, method="bounded"
    )
    return float(found.x)


def calibrate_bins(
    redshift: NDArray[np.float64],
    edges: NDArray[np.float64],
    held_out: tuple[NDArray[np.floating], NDArray[np.floating]],
    bins: NDArray[np.intp],
    *,
    simulated: bool,
) -> RedshiftBins:
    """Put together what turns a network's outputs into distributions.

    Parameters
    ----------
    redshift : ndarray, shape (k,)
        True redshifts of the training part.
    edges : ndarray, shape (m + 1,)
        Of the bins of redshift.
    held_out : tuple of two ndarray, shape (n, m)
        Logits of held-out galaxies with and without their errors.
    bins : ndarray of int, shape (n,)
        Bin of each one's true redshift.
    simulated : bool
        Whether the training set was simulated: then its redshifts were a choice, and SDSS's are
        taken for the sky's.
    """
    from gaia_redshift.simulate.survey import Survey

    u = (np.arange(200_000) + 0.5) / 200_000
    sdss = smooth_density(Survey.resolve("sdss").quantile(u), edges)
    return RedshiftBins(
        edges=edges,
        density=smooth_density(redshift, edges),
        priors={"sdss": sdss},
        default_prior="sdss" if simulated else "training",
        temperature=(fit_temperature(held_out[0], bins), fit_temperature(held_out[1], bins)),
    )
