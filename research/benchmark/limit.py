"""How well redshifts can be known at all: the posterior under the simulator itself.

Many galaxies are simulated without noise (templates). A test spectrum's likelihood given each of
them follows from its own noise covariance, and likelihoods are weights of the templates'
redshifts: no method that sees the spectra alone can have a smaller mean squared error than the
posterior's mean, on average over the simulated survey.

What is done exactly rather than by drawing: the galaxy's brightness (its posterior is narrow: a
Gaussian around the best-fitting level, times the survey's distribution of brightness at the
template's redshift, or nothing where the limit is asked for without brightness) and the errors of
calibration, level and background and the shift along scan (modes added to the covariance). Stars in
the window are left out. The templates' redshifts are drawn from the survey and more evenly, and
weighted back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import load_library
from gaia_redshift.simulate.instrument import BANDS, N_BASES, load_instrument
from gaia_redshift.simulate.noise import triangle_indices
from gaia_redshift.simulate.observation import point_source_coefficients, smear_sources
from gaia_redshift.simulate.profile import constant_coefficients, shift_coefficients
from gaia_redshift.simulate.redshifts import (
    REDSHIFT_RANGE,
    Survey,
    find_node,
    load_selection,
)
from gaia_redshift.simulate.survey import (
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
    brightness: bool = True,
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
    brightness : bool
        Use what brightness says of the redshift; False gives the limit of the shape alone.
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
    known: as published with each spectrum, less the fit's standard deviation where that is among
    the columns; what its size tells of the galaxy beyond the fluxes is not used. The likelihood is
    that of all 110 coefficients, which hold a little more than the 186 fluxes.
    """
    from gaia_redshift._display import open_bar

    if n_templates < 1:
        raise InputError(f"the number of templates must be positive, not {n_templates}")
    p = parameters or load_parameters()
    prior = Survey.resolve(survey)
    proposal, weigh = _mix(prior)
    data = np.concatenate([spectra.bp.coefficients, spectra.rp.coefficients], axis=1)
    if data.shape[1] != 2 * N_BASES or not np.isfinite(data).all():
        raise InputError("the limit needs spectra on DR3's bases, without missing coefficients")

    shapes, z, _ = _draw_templates(_FIRST, np.random.default_rng([seed, 0]), proposal, p)
    basis = _find_components(shapes, _typical_root(spectra, data, z, p))
    precision, projected, squared = _reduce_spectra(spectra, data, basis, p)
    inverse = np.linalg.pinv(basis).T
    row, column = np.tril_indices(basis.shape[1])
    packed = precision[:, row, column] * np.where(row == column, 1.0, 2.0)

    sums = [_Sums.empty(len(data[rows])) for rows in _blocks(len(data))]
    edges = np.linspace(*REDSHIFT_RANGE, _BINS + 1)
    marks = sorted({max(1, n_templates // part) for part in (16, 8, 4, 2, 1)})
    stops = sorted({*range(_CHUNK, n_templates, _CHUNK), *marks})
    part_means: dict[int, Float] = {}
    done = 0
    with open_bar(total=n_templates, unit="template", unit_scale=True, disable=not progress) as bar:
        for number, stop in enumerate(stops, start=1):
            rng = np.random.default_rng([seed, number])
            shapes, z, bright = _draw_templates(stop - done, rng, proposal, p)
            order = np.argsort(z)
            shapes, z = shapes[order], z[order]
            expected = np.log10(interpolate_flux(z, p)) + bright[order] if brightness else None
            cells = np.clip(np.searchsorted(edges, z, side="right") - 1, 0, _BINS - 1)
            reduced = shapes @ inverse
            products = reduced[:, row] * reduced[:, column]
            offset = np.log(weigh(z))
            for part, rows in zip(sums, _blocks(len(data)), strict=True):
                level = packed[rows] @ products.T
                cross = projected[rows] @ reduced.T
                fit = level, cross, squared[rows]
                likelihood = _marginalise(fit, z, expected, p)
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
    from gaia_redshift.metrics.distributions import find_quantiles

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
) -> tuple[Float, Float, Float]:
    """Noise-free coefficients (n, 110) of galaxies of unit ``rp_flux``, and their redshifts.

    And by how much their log10 flux is expected above the median at their redshift.
    """
    truth = draw_truth(n, rng, survey, parameters=p)
    truth["rp_flux"] = np.ones(n)
    smeared = smear_sources(point_source_coefficients(truth, p), truth)
    excess = load_selection(p, load_library()).excess
    bright = p.brightness_colour_slope * excess[truth["galaxy"], find_node(truth["redshift_true"])]
    return np.concatenate([smeared[band] for band in BANDS], axis=1), truth["redshift_true"], bright


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
    """Covariances of the coefficients, shape (n, 110, 110): noise, and errors of other kinds."""
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
        deviation = f"{name}_standard_deviation"
        if spectra.columns is not None and deviation in spectra.columns.colnames:
            errors = errors / np.asarray(spectra.columns[deviation], dtype=np.float64)[:, None]
        block *= errors[:, :, None] * errors[:, None, :]
        part = slice(number * N_BASES, (number + 1) * N_BASES)
        out[:, part, part] = block
    if not np.isfinite(out).all():
        raise InputError("the limit needs errors and correlations in every row")
    modes = _error_modes(data, p)
    return out + modes.transpose(0, 2, 1) @ modes


def _error_modes(data: Float, p: SurveyParameters) -> Float:
    """What one standard deviation of each error beside noise adds, shape (n, modes, 110).

    The simulator multiplies each band's spectrum by 1 + cosines in wavelength and brings the RP
    spectrum's integral back to what it was; the levels of the bands differ by an error of their
    own; each has a residual of the background; both are shifted along scan. To first order.
    """
    instrument = load_instrument()
    level = data[:, N_BASES:] @ instrument.rp.integral
    places = {name: slice(i * N_BASES, (i + 1) * N_BASES) for i, name in enumerate(BANDS)}
    modes = []
    for name, part in places.items():
        band = getattr(instrument, name)
        wavelength = band.wavelength
        phase = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) * np.pi
        for order in range(1, 9):
            shape = p.calibration_error_shape * 0.5 * np.cos(order * phase)
            mode = np.zeros_like(data)
            mode[:, part] = data[:, part] @ ((band.images * shape) @ band.to_coefficients)
            change = mode[:, N_BASES:] @ instrument.rp.integral / level
            modes.append(mode - change[:, None] * data)
        mode = np.zeros_like(data)
        mode[:, part] = p.background_residual_scatter * constant_coefficients(name, instrument)
        modes.append(mode)
    wide = np.exp(p.photometric_error_scatter**2)  # from the median error to the rms
    bp, rp = p.photometric_error_bp * wide, p.photometric_error_rp * wide
    ratio = np.sqrt(bp**2 + rp**2 - 2 * p.photometric_error_correlation * bp * rp)
    mode = np.zeros_like(data)
    mode[:, places["bp"]] = ratio * data[:, places["bp"]]
    modes.append(mode)
    mode = np.zeros_like(data)
    half = np.full(len(data), 0.5)
    for name, part in places.items():
        forth, back = (shift_coefficients(data[:, part], s, name) for s in (half, -half))
        mode[:, part] = p.shift_scatter * (forth - back)
    modes.append(mode)
    return np.stack(modes, axis=1)


def _marginalise(
    fit: tuple[Float, Float, Float], z: Float, expected: Float | None, p: SurveyParameters
) -> Float:
    """Log of the likelihood with brightness integrated out, shape (n, t).

    ``fit`` holds s^T P s, s^T P x and x^T P x for templates s and data x; ``expected`` is the
    templates' median log10 flux, None for a flux that says nothing.
    """
    level, cross, squared = fit
    level = np.maximum(level, 1e-300)
    flux = cross / level
    best = -0.5 * (squared[:, None] - cross * flux)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = -np.log(flux)
        if expected is not None:
            density += _log_brightness(np.log10(flux) - expected, z, p)
    return np.where(flux > 0, best - 0.5 * np.log(level) + density, -np.inf)


def _log_brightness(excess: Float, z: Float, p: SurveyParameters) -> Float:
    """Log density (to a constant) of log10 flux above its median at redshift.

    A Gaussian with an exponential tail, the distribution that
    `gaia_redshift.simulate.survey.spread_brightness` draws from.
    """
    from scipy.special import log_ndtr

    knots = p.brightness_redshift_knots
    scatter = np.interp(z, knots, p.brightness_scatter)
    part = np.maximum(np.interp(z, knots, p.brightness_tail), 0.01)
    tail, core = scatter * np.sqrt(part), scatter * np.sqrt(1 - part)
    from_start = excess + 0.693 * tail
    ratio = core / tail
    return -np.log(tail) + 0.5 * ratio**2 - from_start / tail + log_ndtr(from_start / core - ratio)
