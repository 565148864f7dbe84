"""Make distributions honest, and say what is unlike, on galaxies that were not trained on."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError
from gaia_redshift.metrics.points import find_bins
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles, smooth_density
from gaia_redshift.model.novelty import Novelty
from gaia_redshift.model.postprocess import measure_overlap
from gaia_redshift.model.prior import MagnitudePrior, measure_rp_flux
from gaia_redshift.model.scaler import measure_mean_flux
from gaia_redshift.train.networks import measure_cross_entropy

__all__ = ["HeldOut", "calibrate_bins", "fit_novelty", "fit_temperature", "import_sklearn"]

_COMPLETENESS = 0.99
"""Share of galaxies that are not called unlikely ones."""
_CONFLICTS = 0.01
"""Share of galaxies as SDSS's that contradict their prior."""
_CALIBRATED = 20_000
"""Galaxies to which temperatures are fitted."""
_ENOUGH = 5000
"""Galaxies with which coverage is known to a per cent."""
_COVERAGE = 0.68
_FEWEST = 200
"""Galaxies of a training set that make a prior of their brightness."""
_PRIOR_SAMPLE = 1_000_000

_RANGE = (0.5, 3.0)
_STEEPEST = 0.5

_FALSE_ALARMS = 0.01
"""Share of held-out galaxies that is called unlike, at any brightness: half by each measure."""
_COMPONENTS = 20
_DENSITY_COMPONENTS = 10
_GAUSSIANS = 16
_SAMPLE = 60_000
_DENSITY_SAMPLE = 30_000
_ERROR_SCATTER = 0.25
_PER_LEVEL = 1500
"""Held-out galaxies behind each threshold."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a network says of galaxies that it was not trained on.

    Logits of the bins of redshift, with and without flux errors, and of being a galaxy; the true
    redshift; fluxes, e-/s per sample.
    """

    logits: NDArray[np.floating]  # (n, m)
    logits_without: NDArray[np.floating]  # (n, m)
    galaxy: NDArray[np.floating]  # (n,)
    redshift: NDArray[np.float64]  # (n,)
    flux: NDArray[np.floating]  # (n, 186)


def fit_temperature(
    logits: NDArray[np.floating],
    bins: NDArray[np.intp],
    brightness: NDArray[np.floating],
    offset: NDArray[np.floating] | float = 0.0,
) -> tuple[float, float]:
    """Find what to divide logits (n, m) by so that held-out galaxies have the best cross-entropy.

    Temperature scaling (Guo et al. 2017), as a power of the brightness (n,), ln of the mean flux
    over the typical one: returns the temperature at 0 and its logarithm's slope. ``bins`` (n,) are
    of the true redshifts, ``offset`` (n, m) is ln of their own prior over the training part's.
    """
    from scipy.optimize import minimize

    def measure(x: NDArray[np.float64]) -> float:
        scaled = logits * np.exp(-x[0] - x[1] * brightness)[:, None]
        return measure_cross_entropy(scaled + offset, bins)

    limits = [(float(np.log(_RANGE[0])), float(np.log(_RANGE[1]))), (-_STEEPEST, _STEEPEST)]
    found = minimize(measure, np.zeros(2), bounds=limits, method="Powell", options={"xtol": 1e-3})
    return float(np.exp(found.x[0])), float(found.x[1])


def _make_magnitude_prior(edges: NDArray[np.float64]) -> MagnitudePrior:
    """Return p(z | RP flux) of the simulator's survey "sdss"."""
    from gaia_redshift.simulate.redshifts import Survey
    from gaia_redshift.simulate.survey import draw_brightness, load_parameters

    rng = np.random.default_rng(5)
    z = Survey.resolve("sdss").quantile(rng.uniform(size=_PRIOR_SAMPLE))
    flux = draw_brightness(z, rng, load_parameters())
    return MagnitudePrior.from_sample(z, flux, edges=edges)


def calibrate_bins(
    redshift: NDArray[np.float64],
    edges: NDArray[np.float64],
    held_out: HeldOut,
    *,
    sky: HeldOut | None = None,
    given: NDArray[np.float64] | None = None,
    given_flux: NDArray[np.floating] | None = None,
    simulated: bool,
    blind: bool = False,
    knows_others: bool = False,
) -> RedshiftBins:
    """Put together what turns a network's outputs into distributions.

    ``redshift`` (k,) are those of the training part; ``held_out`` galaxies are calibrated on, or
    ``sky``, simulated ones as SDSS's, if the training's are not. ``given`` (j,) are redshifts of
    galaxies that were not mixed in, the prior "given": one of brightness, if their fluxes (j, 186)
    are known. ``simulated``: the training set's redshifts were a choice, and SDSS's are taken for
    the sky's; ``blind``: the flux said nothing of them; ``knows_others``: of what is no galaxy.
    """
    from gaia_redshift.simulate.redshifts import Survey

    u = (np.arange(200_000) + 0.5) / 200_000
    typical = float(np.exp(np.median(np.log(measure_mean_flux(held_out.flux)))))
    density = smooth_density(redshift, edges)
    sdss = smooth_density(Survey.resolve("sdss").quantile(u), edges)
    priors: dict[str, Any] = {"sdss": sdss}
    if blind:
        priors = {"sdss": _make_magnitude_prior(edges), "sdss_redshift": sdss}
    if given is not None:
        priors["given"] = smooth_density(given, edges)
        if given_flux is not None and len(given) >= _FEWEST:
            rp_flux = measure_rp_flux(given_flux)
            priors["given"] = MagnitudePrior.from_sample(given, rp_flux, edges=edges)
    if given_flux is not None or (given is not None and not simulated):
        default = "given"
    else:
        default = "sdss" if simulated else "training"
    bins = RedshiftBins(
        edges=edges,
        density=density,
        priors=priors,
        default_prior=default,
        typical_level=typical,
        blind_to_flux=blind,
    )
    like_sky = held_out if sky is None else sky
    flux = like_sky.flux[:_CALIBRATED]
    prior = bins.spread_prior(bins.resolve_prior()[1], flux) if blind else density
    true = like_sky.redshift[:_CALIBRATED]
    fitted = []
    for logits in (like_sky.logits[:_CALIBRATED], like_sky.logits_without[:_CALIBRATED]):
        temperature = fit_temperature(
            logits,
            find_bins(true, edges),
            np.log(measure_mean_flux(flux) / typical),
            np.log(prior) - np.log(density),
        )
        if len(flux) >= _ENOUGH:
            temperature = match_coverage(bins, logits, (true, flux), prior, temperature)
        fitted.append(temperature)
    bins = dataclasses.replace(
        bins,
        temperature=(fitted[0][0], fitted[1][0]),
        temperature_slope=(fitted[0][1], fitted[1][1]),
    )
    threshold = None
    if knows_others:
        logit = np.quantile(like_sky.galaxy, 1 - _COMPLETENESS)
        threshold = float(1 / (1 + np.exp(-logit)))
    return dataclasses.replace(
        bins,
        galaxy_threshold=threshold,
        conflict_threshold=_find_conflict(bins, like_sky) if blind else 0.0,
    )


def _find_conflict(bins: RedshiftBins, galaxies: HeldOut) -> float:
    """Overlap with the default prior that all but a few galaxies exceed."""
    known = np.ones(len(galaxies.redshift), dtype=bool)
    _, found = bins.resolve_prior()
    prior = np.broadcast_to(bins.spread_prior(found, galaxies.flux), galaxies.logits.shape)
    flat = np.asarray(bins.resolve_prior("flat")[1])
    mean_flux = measure_mean_flux(galaxies.flux)
    shape = bins.compute_probability(galaxies.logits, known, mean_flux, flat)
    return float(np.quantile(measure_overlap(shape, prior), _CONFLICTS))


def match_coverage(
    bins: RedshiftBins,
    logits: NDArray[np.floating],
    galaxies: tuple[NDArray[np.float64], NDArray[np.floating]],
    prior: NDArray[np.floating],
    temperature: tuple[float, float],
) -> tuple[float, float]:
    """Change a temperature so that 68 % of the galaxies lie in their 68 % intervals.

    With the best cross-entropy, distributions with several peaks may hold a few per cent more.
    ``galaxies`` are true redshifts (n,) and fluxes (n, 186).
    """
    redshift, flux = galaxies
    mean_flux = measure_mean_flux(flux)
    known = np.ones(len(flux), dtype=bool)

    def measure(factor: float) -> float:
        changed = dataclasses.replace(
            bins,
            temperature=(factor * temperature[0], 1.0),
            temperature_slope=(temperature[1], 0.0),
        )
        probability = changed.compute_probability(logits, known, mean_flux, prior)
        lower, upper = compute_quantiles(probability, bins.edges, (0.16, 0.84))
        return float(((redshift >= lower) & (redshift <= upper)).mean())

    low, high = 0.7, 1.4
    for _ in range(12):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if measure(middle) < _COVERAGE else (low, middle)
    return 0.5 * (low + high) * temperature[0], temperature[1]


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
        quantiles = (0.5, 1 - _FALSE_ALARMS / 2)
        rows.append(
            [
                log_level[here].mean(),
                *np.quantile(density[here], quantiles),
                *np.quantile(left, quantiles),
            ]
        )
    at, *thresholds = np.array(rows).T
    return Novelty(center, width, components, mixture.means_, roots, log_weights, at, *thresholds)
