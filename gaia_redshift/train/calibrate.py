"""Make distributions honest on galaxies that the network was not trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.metrics.points import find_bins
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles, smooth_density
from gaia_redshift.model.postprocess import measure_overlap
from gaia_redshift.model.prior import MagnitudePrior, measure_rp_flux
from gaia_redshift.model.scaler import measure_mean_flux
from gaia_redshift.train.objectives import measure_cross_entropy

__all__ = ["HeldOut", "calibrate_bins", "fit_temperature", "make_magnitude_prior"]

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


def make_magnitude_prior(edges: NDArray[np.float64]) -> MagnitudePrior:
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
        priors = {"sdss": make_magnitude_prior(edges), "sdss_redshift": sdss}
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
