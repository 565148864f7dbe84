"""How well redshifts can be known at all: the posterior under the simulator itself.

Many galaxies are simulated without noise (templates). A test spectrum's likelihood given each of
them follows from its own noise covariance, and likelihoods are weights of the templates'
redshifts: no method that sees the spectra alone can have a smaller mean squared error than the
posterior's mean, on average over the simulated survey.

What is done exactly rather than by drawing: the galaxy's brightness (its posterior is narrow: a
Gaussian around the best-fitting level, times the survey's distribution of brightness at the
template's redshift) and the error of the flux calibration (modes added to the covariance). The
templates' redshifts are drawn from the survey and more evenly, and weighted back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.generate import point_source_coefficients
from gaia_redshift.simulate.instrument import BANDS, N_BASES, WINDOW, load_instrument
from gaia_redshift.simulate.noise import triangle_indices
from gaia_redshift.simulate.profile import smear_coefficients
from gaia_redshift.simulate.survey import (
    REDSHIFT_RANGE,
    Survey,
    SurveyParameters,
    draw_truth,
    interpolate_flux,
    load_parameters,
)
from gaia_redshift.spectra import XPSpectra

__all__ = ["LOW_SAMPLE_SIZE", "Posterior", "estimate_limit"]

Float = NDArray[np.float64]

LOW_SAMPLE_SIZE = 30.0
"""Effective sample sizes below this are called low: the posterior's mean is then itself noisy."""
_BINS = 300
_SHARES = (0.5, 0.3, 0.2)
"""Parts of the templates with the survey's redshifts, evenly near, and evenly over all."""
_NEAR = 0.15
"""Nearer galaxies are brighter, their posteriors narrower: they need more templates."""
_CHUNK = 2000
_FIRST = 4000
_TESTS = 500
"""Test spectra whose likelihoods are held at once."""
_RESIDUAL = 0.1
"""Largest part of a standard deviation that the templates' principal components may leave out."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of each test galaxy's redshift under the simulator.

    Parameters
    ----------
    mean, median : ndarray, shape (n,)
        The mean is best in mean squared error, the median in mean absolute error.
    pdf : ndarray, shape (n, 300)
        Probability density in bins of redshift.
    edges : ndarray, shape (301,)
        Edges of the bins.
    sample_size : ndarray, shape (n,)
        Effective number of templates behind it, ``(sum w)^2 / sum w^2`` (Kish 1965).
    part_means : dict
        Number of templates to the posterior's mean after so many of them, shape (n,): whether more
        would still change the result.
    n_templates : int
    """

    mean: Float
    median: Float
    pdf: Float
    edges: Float
    sample_size: Float
    part_means: dict[int, Float]
    n_templates: int

    @property
    def low(self) -> NDArray[np.bool_]:
        """Which galaxies have an effective sample size below `LOW_SAMPLE_SIZE`."""
        return self.sample_size < LOW_SAMPLE_SIZE


@dataclass(eq=False)
class _Sums:
    """Running sums of weights, relative to the largest log weight so far."""

    largest: Float
    weight: Float
    squared: Float
    moment: Float
    density: Float  # (n, _BINS)

    @classmethod
    def empty(cls, n: int) -> _Sums:
        weight, squared, moment = np.zeros((3, n))
        return cls(np.full(n, -np.inf), weight, squared, moment, np.zeros((n, _BINS)))

    def add(self, log_weight: Float, z: Float, cells: NDArray[np.intp]) -> None:
        """Add templates, sorted by redshift so that ``cells`` rise; log_weight is (n, t)."""
        largest = np.maximum(self.largest, log_weight.max(axis=1))
        base = np.where(np.isfinite(largest), largest, 0.0)  # -inf: nothing has any weight yet
        old = np.exp(self.largest - base)
        weight = np.exp(log_weight - base[:, None])
        self.largest = largest
        self.weight = self.weight * old + weight.sum(axis=1)
        self.squared = self.squared * old**2 + (weight**2).sum(axis=1)
        self.moment = self.moment * old + weight @ z
        self.density *= old[:, None]
        first = np.flatnonzero(np.diff(cells, prepend=-1))
        self.density[:, cells[first]] += np.add.reduceat(weight, first, axis=1)


def estimate_limit(
    spectra: XPSpectra,
    *,
    n_templates: int = 100_000,
    seed: int = 2001,
    survey: Any = "sdss",
    parameters: SurveyParameters | None = None,
    progress: bool = False,
) -> Posterior:
    """Work out the posterior of simulated galaxies' redshifts under the simulator.

    Parameters
    ----------
    spectra : XPSpectra
        Simulated galaxies with errors and correlations.
    n_templates : int
        Noise-free galaxies to weigh.
    seed : int
        Of the templates; another than that of the spectra.
    survey
        The redshift distribution that the spectra were drawn from, and so the prior: see
        `gaia_redshift.simulate_spectra`.
    parameters : SurveyParameters, optional
        The population that they were drawn from, if it is not the package's own.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Posterior

    Raises
    ------
    InputError
        If the spectra have no errors and correlations on DR3's bases.

    Notes
    -----
    Importance sampling; the proposal is the prior with more galaxies where they are needed. With
    few effective samples the estimate scatters about the posterior's mean, and its errors are
    larger than the limit: read such a limit as an upper one. The noise covariance is taken as
    known, as published with each spectrum; what its size tells of the galaxy beyond the fluxes is
    not used. The likelihood is that of all 110 coefficients, which hold a little more than the 186
    fluxes.
    """
    from gaia_redshift._progress import open_bar

    if n_templates < 1:
        raise InputError(f"the number of templates must be positive, not {n_templates}")
    p = parameters or load_parameters()
    prior = Survey.resolve(survey)
    proposal, weigh = _mix(prior)
    data = np.concatenate([spectra.bp.coefficients, spectra.rp.coefficients], axis=1)
    if data.shape[1] != 2 * N_BASES or not np.isfinite(data).all():
        raise InputError("the limit needs spectra on DR3's bases, without missing coefficients")

    shapes, z = _draw_templates(_FIRST, np.random.default_rng([seed, 0]), proposal, p)
    basis = _find_components(shapes, _typical_root(spectra, data, z, p))
    precision, projected, squared = _reduce_spectra(spectra, data, basis, p)
    inverse = np.linalg.pinv(basis).T
    row, column = np.tril_indices(basis.shape[1])
    packed = precision[:, row, column] * np.where(row == column, 1.0, 2.0)

    sums = [_Sums.empty(len(data[rows])) for rows in _blocks(len(data))]
    edges = np.linspace(*REDSHIFT_RANGE, _BINS + 1)
    marks = sorted({max(1, n_templates // 4), max(1, n_templates // 2), n_templates})
    stops = sorted({*range(_CHUNK, n_templates, _CHUNK), *marks})
    part_means: dict[int, Float] = {}
    done = 0
    with open_bar(total=n_templates, unit="template", unit_scale=True, disable=not progress) as bar:
        for number, stop in enumerate(stops, start=1):
            rng = np.random.default_rng([seed, number])
            shapes, z = _draw_templates(stop - done, rng, proposal, p)
            order = np.argsort(z)
            shapes, z = shapes[order], z[order]
            cells = np.clip(np.searchsorted(edges, z, side="right") - 1, 0, _BINS - 1)
            reduced = shapes @ inverse
            products = reduced[:, row] * reduced[:, column]
            offset = np.log(weigh(z))
            for part, rows in zip(sums, _blocks(len(data)), strict=True):
                level = packed[rows] @ products.T
                cross = projected[rows] @ reduced.T
                likelihood = _marginalise(level, cross, squared[rows], z, p)
                part.add(likelihood + offset, z, cells)
            bar.update(stop - done)
            done = stop
            if done in marks:
                with np.errstate(invalid="ignore"):
                    part_means[done] = np.concatenate([s.moment / s.weight for s in sums])
    return _finish(sums, edges, part_means, n_templates)


def _finish(
    sums: list[_Sums], edges: Float, part_means: dict[int, Float], n_templates: int
) -> Posterior:
    from gaia_redshift.evaluate.distributions import find_quantiles

    weight = np.concatenate([s.weight for s in sums])
    density = np.concatenate([s.density for s in sums])
    with np.errstate(invalid="ignore"):
        pdf = density / weight[:, None] / np.diff(edges)
        sample_size = weight**2 / np.concatenate([s.squared for s in sums])
    return Posterior(
        mean=part_means[n_templates],
        median=find_quantiles(pdf, edges, [0.5])[:, 0],
        pdf=pdf,
        edges=edges,
        sample_size=np.nan_to_num(sample_size),
        part_means=part_means,
        n_templates=n_templates,
    )


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _TESTS) for start in range(0, n, _TESTS)]


def _mix(prior: Survey) -> tuple[Survey, Callable[[Float], Float]]:
    """Return the survey that templates are drawn from, and the prior's density over its own."""
    low, high = REDSHIFT_RANGE
    near = low + _NEAR

    def quantile(u: Float) -> Float:
        u = np.asarray(u)
        first, second = _SHARES[0], _SHARES[0] + _SHARES[1]
        z = prior.quantile(np.clip(u / first, 0, 1 - 1e-12))
        z = np.where(u >= first, low + (near - low) * (u - first) / _SHARES[1], z)
        return np.where(u >= second, low + (high - low) * (u - second) / _SHARES[2], z)

    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    counts, edges = np.histogram(prior.quantile(u), bins=_BINS, range=REDSHIFT_RANGE)
    middles = 0.5 * (edges[1:] + edges[:-1])
    density = counts / len(u) / np.diff(edges)

    def weigh(z: Float) -> Float:
        here = np.maximum(np.interp(z, middles, density), 1e-12)
        even = _SHARES[1] * (z < near) / (near - low) + _SHARES[2] / (high - low)
        return here / (_SHARES[0] * here + even)

    return Survey(f"{prior.name}, more evenly", quantile), weigh


def _draw_templates(
    n: int, rng: np.random.Generator, survey: Survey, p: SurveyParameters
) -> tuple[Float, Float]:
    """Noise-free coefficients (n, 110) of galaxies of unit ``rp_flux``, and their redshifts."""
    truth = draw_truth(n, rng, survey, parameters=p)
    truth["rp_flux"] = np.ones(n)
    point = point_source_coefficients(truth, p)
    smeared = smear_coefficients(
        point["bp"], point["rp"], truth["profile_scale"], truth["point_fraction"]
    )
    return np.concatenate(smeared, axis=1), truth["redshift_true"]


def _typical_root(spectra: XPSpectra, data: Float, z: Float, p: SurveyParameters) -> Float:
    """Inverse root of the covariance of the sharpest of some test spectra, per unit of flux."""
    level = np.linalg.norm(data[:, N_BASES:], axis=1)
    chosen = int(np.argsort(level)[int(0.95 * (len(level) - 1))])
    covariance = _covariances(spectra[[chosen]], data[[chosen]], p)[0]
    flux = float(np.median(interpolate_flux(z, p))) * level[chosen] / float(np.median(level))
    return np.linalg.inv(np.linalg.cholesky(covariance)) * flux


def _find_components(shapes: Float, root: Float) -> Float:
    """Directions (110, k) in which templates differ by more than a small part of the noise."""
    whitened = shapes @ root.T
    values, vectors = np.linalg.eigh(whitened.T @ whitened)
    vectors = vectors[:, ::-1]
    left = whitened @ vectors
    for k in range(8, len(values) + 1):
        residual = np.sqrt((left[:, k:] ** 2).sum(axis=1))
        if np.percentile(residual, 99) < _RESIDUAL:
            break
    return np.linalg.solve(root, vectors[:, :k])


def _reduce_spectra(
    spectra: XPSpectra, data: Float, basis: Float, p: SurveyParameters
) -> tuple[Float, Float, Float]:
    """Per spectrum V^T P V (n, k, k), V^T P x (n, k) and x^T P x (n,); P inverts the covariance."""
    k = basis.shape[1]
    precision, projected = np.empty((len(data), k, k)), np.empty((len(data), k))
    squared = np.empty(len(data))
    for rows in _blocks(len(data)):
        covariance = _covariances(spectra[rows], data[rows], p)
        right = np.concatenate(
            [np.broadcast_to(basis, (len(covariance), *basis.shape)), data[rows][:, :, None]],
            axis=2,
        )
        solved = np.linalg.solve(covariance, right)
        precision[rows] = basis.T @ solved[:, :, :k]
        projected[rows] = solved[:, :, k] @ basis
        squared[rows] = np.einsum("ni,ni->n", solved[:, :, k], data[rows])
    return precision, projected, squared


def _covariances(spectra: XPSpectra, data: Float, p: SurveyParameters) -> Float:
    """Covariances of the coefficients, shape (n, 110, 110): noise and calibration error."""
    n = len(data)
    out = np.zeros((n, 2 * N_BASES, 2 * N_BASES))
    row, column = triangle_indices()
    for number, name in enumerate(BANDS):
        band = getattr(spectra, name)
        if band.errors is None or band.correlations is None:
            raise InputError("the limit needs spectra with errors and correlations")
        block = np.zeros((n, N_BASES, N_BASES))
        block[:, row, column] = band.correlations
        block += block.transpose(0, 2, 1)
        block[:, np.arange(N_BASES), np.arange(N_BASES)] = 1.0
        errors = np.asarray(band.errors, dtype=np.float64)
        block *= errors[:, :, None] * errors[:, None, :]
        part = slice(number * N_BASES, (number + 1) * N_BASES)
        out[:, part, part] = block
    if not np.isfinite(out).all():
        raise InputError("the limit needs errors and correlations in every row")
    modes = _calibration_modes(data, p)
    return out + modes.transpose(0, 2, 1) @ modes


def _calibration_modes(data: Float, p: SurveyParameters) -> Float:
    """What one standard deviation of each calibration mode adds, shape (n, modes, 110).

    The simulator multiplies each band's spectrum by 1 + cosines in wavelength + a level, then
    brings the RP spectrum's mean back to what it was: so do these, to first order.
    """
    instrument = load_instrument()
    inside = (instrument.rp.position >= WINDOW[0]) & (instrument.rp.position <= WINDOW[1])
    window_mean = instrument.rp.bases[:, inside].mean(axis=1)
    level = data[:, N_BASES:] @ window_mean
    modes = []
    for number, name in enumerate(BANDS):
        band = getattr(instrument, name)
        part = slice(number * N_BASES, (number + 1) * N_BASES)
        wavelength = band.wavelength
        phase = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) * np.pi
        shapes = [p.calibration_shape * 0.5 * np.cos(order * phase) for order in range(1, 9)]
        for shape in [*shapes, np.full(len(phase), p.calibration_level)]:
            mode = np.zeros_like(data)
            mode[:, part] = data[:, part] @ ((band.images * shape) @ band.to_coefficients)
            change = mode[:, N_BASES:] @ window_mean / level
            modes.append(mode - change[:, None] * data)
    return np.stack(modes, axis=1)


def _marginalise(
    level: Float, cross: Float, squared: Float, z: Float, p: SurveyParameters
) -> Float:
    """Log of the likelihood with brightness integrated out, shape (n, t).

    ``level`` is s^T P s, ``cross`` s^T P x and ``squared`` x^T P x for templates s and data x.
    """
    level = np.maximum(level, 1e-300)
    flux = cross / level
    fit = -0.5 * (squared[:, None] - cross * flux)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = _log_brightness(np.log10(flux), z, p) - np.log(flux)
    return np.where(flux > 0, fit - 0.5 * np.log(level) + density, -np.inf)


def _log_brightness(log_flux: Float, z: Float, p: SurveyParameters) -> Float:
    """Log density (to a constant) of log10 flux at redshift: a Gaussian with an exponential tail.

    The same distribution as `gaia_redshift.simulate.survey.draw_brightness` draws from.
    """
    from scipy.special import log_ndtr

    scatter = np.interp(z, p.redshift_knots, p.rp_flux_scatter)
    tail, core = scatter * np.sqrt(p.rp_flux_tail), scatter * np.sqrt(1 - p.rp_flux_tail)
    from_start = log_flux - (np.log10(interpolate_flux(z, p)) - tail)
    ratio = core / tail
    return -np.log(tail) + 0.5 * ratio**2 - from_start / tail + log_ndtr(from_start / core - ratio)
