"""Fit the measure of what is unlike the training set (`gaia_redshift.model.novelty`)."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError
from gaia_redshift.metrics.points import find_bins
from gaia_redshift.model.novelty import Novelty
from gaia_redshift.model.scaler import measure_mean_flux

__all__ = ["FALSE_ALARMS", "fit_novelty", "import_sklearn"]

FALSE_ALARMS = 0.01
"""Share of held-out galaxies that is called unlike, at any brightness: half by each measure."""
_COMPONENTS = 20
_DENSITY_COMPONENTS = 10
_GAUSSIANS = 16
_SAMPLE = 60_000
_DENSITY_SAMPLE = 30_000
_ERROR_SCATTER = 0.25
_PER_LEVEL = 1500
"""Held-out galaxies behind each threshold."""


def import_sklearn() -> None:
    """Find out whether scikit-learn is installed; `ModelError` if it is not."""
    try:
        importlib.import_module("sklearn")
    except ImportError:
        raise ModelError(
            "training this network needs scikit-learn: pip install 'gaia-redshift[train]'"
        ) from None


def fit_novelty(
    flux: NDArray[np.floating],
    held_out: NDArray[np.floating],
    held_out_error: NDArray[np.floating] | None,
    *,
    seed: int,
) -> Novelty:
    """Fit components and density to galaxies' flux (n, 186), and the thresholds to others (m, 186).

    The latter are held-out galaxies; `ModelError` if scikit-learn is not installed.
    """
    import_sklearn()
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng([seed, 2])
    chosen = rng.permutation(len(flux))[:_SAMPLE]
    sample = np.asarray(flux[np.sort(chosen)], dtype=np.float64)
    rng.shuffle(sample)
    level = measure_mean_flux(sample)
    shape = sample / level[:, None]
    low, center, high = np.percentile(shape, [15.87, 50.0, 84.13], axis=0)
    width = 0.5 * (high - low)
    scaled = (shape - center) / width
    # The brighter half: noise would become components.
    bright = level >= np.median(level)
    n_components = min(_COMPONENTS, int(bright.sum()) - 1)
    state = int(rng.integers(2**31))
    pca = PCA(n_components, svd_solver="covariance_eigh").fit(scaled[bright])
    center = center + width * pca.mean_
    components = pca.components_
    d = min(_DENSITY_COMPONENTS, n_components)
    place = ((shape - center) / width) @ components.T
    points = np.column_stack([place[:, :d], np.log(level)])[:_DENSITY_SAMPLE]
    mixture = GaussianMixture(
        max(1, min(_GAUSSIANS, len(points) // 100)), reg_covar=1e-3, random_state=state
    ).fit(points)
    roots = mixture.precisions_cholesky_
    normalisation = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    log_weights = np.log(mixture.weights_) + normalisation - 0.5 * (d + 1) * np.log(2 * np.pi)
    empty = np.array([0.0])
    if held_out_error is not None:
        # Errors may be told wrong: what is unusual must not hang on them.
        factor = np.exp(rng.normal(0.0, _ERROR_SCATTER, (len(held_out_error), 1)))
        held_out_error = held_out_error * factor
    fitted = Novelty(
        center, width, components, mixture.means_, roots, log_weights, empty, empty, empty, empty,
        empty,
    )  # fmt: skip
    density, residual, log_level = fitted.measure(held_out, held_out_error)
    bins = max(1, len(held_out) // _PER_LEVEL)
    edges = np.quantile(log_level, np.linspace(0.0, 1.0, bins + 1))
    which = find_bins(log_level, edges)
    rows = []
    for i in range(bins):
        here = which == i
        left = residual[here]
        left = left[np.isfinite(left)]
        if not left.size:
            left = np.array([0.0, 1e9])
        quantiles = (0.5, 1 - FALSE_ALARMS / 2)
        rows.append(
            [
                log_level[here].mean(),
                *np.quantile(density[here], quantiles),
                *np.quantile(left, quantiles),
            ]
        )
    at, *thresholds = np.array(rows).T
    return Novelty(center, width, components, mixture.means_, roots, log_weights, at, *thresholds)
