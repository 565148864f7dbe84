"""Make distributions honest on galaxies that the network was not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.model.distribution import RedshiftBins, smooth_density
from gaia_redshift.train.objectives import measure_cross_entropy

__all__ = ["calibrate_bins", "fit_temperature"]

_RANGE = (0.5, 3.0)
_STEEPEST = 0.5


def fit_temperature(
    logits: NDArray[np.floating],
    bins: NDArray[np.intp],
    brightness: NDArray[np.floating],
) -> tuple[float, float]:
    """Find what to divide logits by so that held-out galaxies have the best cross-entropy.

    Method: temperature scaling (Guo et al. 2017), with a temperature that changes as a power of the
    brightness.

    Parameters
    ----------
    logits : ndarray, shape (n, m)
    bins : ndarray of int, shape (n,)
        Bin of each true redshift.
    brightness : ndarray, shape (n,)
        Logarithm of the mean flux over the typical one.

    Returns
    -------
    tuple of float
        The temperature at brightness 0, and the slope of its logarithm.
    """
    from scipy.optimize import minimize

    def measure(x: NDArray[np.float64]) -> float:
        return measure_cross_entropy(logits * np.exp(-x[0] - x[1] * brightness)[:, None], bins)

    limits = [(float(np.log(_RANGE[0])), float(np.log(_RANGE[1]))), (-_STEEPEST, _STEEPEST)]
    found = minimize(measure, np.zeros(2), bounds=limits, method="Powell", options={"xtol": 1e-3})
    return float(np.exp(found.x[0])), float(found.x[1])


def calibrate_bins(
    redshift: NDArray[np.float64],
    edges: NDArray[np.float64],
    held_out: tuple[NDArray[np.floating], NDArray[np.floating]],
    bins: NDArray[np.intp],
    level: NDArray[np.float64],
    *,
    given: NDArray[np.float64] | None = None,
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
    level : ndarray, shape (n,), e-/s
        Mean flux of each.
    given : ndarray, shape (j,), optional
        True redshifts of those galaxies of the training part that were not mixed in: the prior
        ``"given"``.
    simulated : bool
        Whether the training set was simulated: then its redshifts were a choice, and SDSS's are
        taken for the sky's.
    """
    from gaia_redshift.simulate.redshifts import Survey

    u = (np.arange(200_000) + 0.5) / 200_000
    typical = float(np.exp(np.median(np.log(level))))
    brightness = np.log(level / typical)
    with_errors, without = (fit_temperature(logits, bins, brightness) for logits in held_out)
    sdss = smooth_density(Survey.resolve("sdss").quantile(u), edges)
    return RedshiftBins(
        edges=edges,
        density=smooth_density(redshift, edges),
        priors={"sdss": sdss} | ({} if given is None else {"given": smooth_density(given, edges)}),
        default_prior="sdss" if simulated else "training" if given is None else "given",
        temperature=(with_errors[0], without[0]),
        temperature_slope=(with_errors[1], without[1]),
        typical_level=typical,
    )
