"""Noise and all else that disturbs a spectrum, and the archive's form of what comes of it.

Before the noise come a neighbour's light, a shift, a background and an error of the level. The
noise follows from the coefficients' covariance, by transits, photons and read noise.

A mean spectrum is a least-squares fit of the bases to the samples of N transits. The variance of
one sample at pseudo-wavelength u is

    V(u) = (s(u) + background) / t + (read_noise / t)^2 + (calibration * mean s)^2

so samples alone would give the coefficients the precision matrix N * integral of Phi Phi^T / V du.
The published solutions vary far less than that at the shortest periods, by the same part in
bright and faint sources, with few and with many transits: the errors of the last ten orders are
0.1 to 0.7 of what samples alone leave, and noise stays correlated over more samples. So
fluctuations of angular frequency w are given the precision 1 + (w / w0)^8 instead of 1, w0 = 2 pi /
`BandNoise.shortest_period`; as an integral that adds w0^-8 Phi Phi^T / V.

The constants were fitted to the published covariances of the real sources with mean fluxes below
150 e-/s among 616 (`research.simulator.real_noise` measures how well they do). Read noise and
background act alike where the flux is low; only read_noise^2 / t + background is known.

An extended source's flux also scatters from transit to transit with the scan angle, by the same
factor at all samples. That moves the level of the mean spectrum (it is no noise of single samples),
but the published errors, which the fit's standard deviation multiplies, rise with it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.contaminants import star_fluxes
from gaia_redshift.simulate.instrument import BANDS, Band, Instrument, load_instrument
from gaia_redshift.simulate.observation import disperse_fluxes
from gaia_redshift.simulate.profile import (
    constant_coefficients,
    displace_coefficients,
    shift_coefficients,
)
from gaia_redshift.simulate.survey import SurveyParameters
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = [
    "NOISE",
    "BandNoise",
    "coefficient_covariance",
    "disturb_sources",
    "draw_noise",
    "observe_sources",
    "triangle_indices",
]

Float = NDArray[np.float64]

EXPOSURE_S = 4.42
"""Exposure of one transit of one CCD (s)."""
SAMPLES_PER_TRANSIT = 60
_EVERY = 4
"""Points of the instrument's fine grid that one step of the integrals takes."""


@dataclass(frozen=True)
class BandNoise:
    """Noise constants of one photometer.

    Effective read noise of a sample (with what else does not depend on flux); sky and stray light
    under it; error of a single transit as a part of its mean flux (crowding, background, geometry);
    the period below which fluctuations hardly occur in the published solutions.
    """

    read_noise: float  # e-
    background: float  # e-/s
    calibration: float
    shortest_period: float  # samples


NOISE = {
    "bp": BandNoise(read_noise=10.0, background=2.0, calibration=0.041, shortest_period=2.32),
    "rp": BandNoise(read_noise=9.9, background=2.0, calibration=0.034, shortest_period=2.60),
}


@functools.lru_cache(maxsize=8)
def triangle_indices(size: int = 55) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the archive's correlations: upper triangle, column by column."""
    column, row = np.tril_indices(size, -1)
    return row, column


@functools.lru_cache(maxsize=8)
def _fine_bases(instrument: Instrument, band: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bases on the window's fine grid, and what each of its points adds to the precision.

    The second has a column for each pair of bases (lower triangle with diagonal).
    """
    part: Band = getattr(instrument, band)
    step = part.position[1] - part.position[0]
    derivative = part.published
    for _ in range(4):
        derivative = np.gradient(derivative, step, axis=1)
    phi, fourth = part.published[:, ::_EVERY], derivative[:, ::_EVERY]
    row, column = np.tril_indices(len(phi))
    damping = (NOISE[band].shortest_period / (2 * np.pi)) ** 8
    products = phi[row] * phi[column] + damping * (fourth[row] * fourth[column])
    return phi, np.ascontiguousarray(products.T) * step * _EVERY


def coefficient_covariance(
    coefficients: NDArray[np.floating],
    transits: NDArray[np.floating],
    band: str,
    instrument: Instrument | None = None,
) -> Float:
    """Predict the covariance matrices of coefficients.

    Parameters
    ----------
    coefficients : ndarray, shape (n, k), e-/s
    transits : ndarray, shape (n,)
        Number of transits in the mean spectrum.
    band : {"bp", "rp"}
    instrument : Instrument, optional
        DR3's by default.

    Returns
    -------
    covariance : ndarray, shape (n, k, k), (e-/s)^2
    """
    root, _ = _inverse_root(coefficients, transits, band, instrument or load_instrument())
    return np.matmul(root.transpose(0, 2, 1), root)


def draw_noise(
    coefficients: NDArray[np.floating],
    transits: NDArray[np.floating],
    band: str,
    rng: np.random.Generator,
    *,
    level_sigma: NDArray[np.floating] | float = 0.0,
    error_scatter: float = 0.0,
    correlations: bool = True,
    instrument: Instrument | None = None,
) -> tuple[Float, Float, NDArray[np.float32] | None, Float]:
    """Add noise to coefficients, and say how much in the archive's form.

    Parameters
    ----------
    coefficients : ndarray, shape (n, k), e-/s
        Noise-free coefficients, as published.
    transits : ndarray, shape (n,)
    band : {"bp", "rp"}
    rng : numpy.random.Generator
    level_sigma : ndarray, shape (n,), or float
        Relative error of the mean level: the scatter from transit to transit over the root of
        their number. It is not drawn here, but the published errors tell of it.
    error_scatter : float
        Scatter of the ln of the factor by which published errors differ from true ones.
    correlations : bool
        Whether to work out the correlations.
    instrument : Instrument, optional
        DR3's by default.

    Returns
    -------
    noisy : ndarray, shape (n, k), e-/s
    errors : ndarray, shape (n, k), e-/s
        Standard errors of the coefficients as they would be published.
    correlations : ndarray, shape (n, k (k - 1) / 2), float32, or None
        Column-ordered upper triangle of the correlation matrix.
    standard_deviation : ndarray, shape (n,)
        Of the fit, by which the errors are multiplied; near 1 for a point source.
    """
    root, excess = _inverse_root(coefficients, transits, band, instrument or load_instrument())
    draw = rng.standard_normal(coefficients.shape)
    noisy = coefficients + np.matmul(draw[:, None, :], root)[:, 0]
    errors = np.sqrt(np.einsum("nij,nij->nj", root, root))
    deviation = np.sqrt(1.0 + np.asarray(level_sigma) ** 2 * transits * excess)
    deviation = deviation * np.exp(error_scatter * rng.standard_normal(len(coefficients)))
    published = errors * deviation[:, None]
    if not correlations:
        return noisy, published, None, deviation
    root /= errors[:, None, :]
    matrix = np.matmul(root.transpose(0, 2, 1), root)
    row, column = triangle_indices(coefficients.shape[1])
    return noisy, published, matrix[:, row, column].astype(np.float32), deviation


def _inverse_root(
    coefficients: NDArray[np.floating],
    transits: NDArray[np.floating],
    band: str,
    instrument: Instrument,
) -> tuple[Float, Float]:
    """Return X with X^T X the covariance, and the mean of flux^2 over a sample's variance.

    X is the inverse of the precision's Cholesky factor.
    """
    phi, products = _fine_bases(instrument, band)
    constants = NOISE[band]
    flux = np.maximum(coefficients @ phi, 0.0)
    variance = (
        (flux + constants.background) / EXPOSURE_S
        + (constants.read_noise / EXPOSURE_S) ** 2
        + (constants.calibration * flux.mean(axis=1, keepdims=True)) ** 2
    )
    weights = np.asarray(transits, dtype=float)[:, None] / variance
    size = len(phi)
    row, column = np.tril_indices(size)
    precision = np.zeros((len(weights), size, size))
    precision[:, row, column] = weights @ products
    return _invert_lower(np.linalg.cholesky(precision)), (flux**2 / variance).mean(axis=1)


def _invert_lower(lower: NDArray[Any]) -> NDArray[Any]:
    """Invert a stack of lower triangular matrices by halves: three times as fast as a solver."""
    size = lower.shape[1]
    if size <= 14:
        return np.linalg.inv(lower)
    half = size // 2
    out = np.zeros_like(lower)
    first = _invert_lower(lower[:, :half, :half])
    last = _invert_lower(lower[:, half:, half:])
    out[:, :half, :half] = first
    out[:, half:, half:] = last
    out[:, half:, :half] = -np.matmul(last, np.matmul(lower[:, half:, :half], first))
    return out


def disturb_sources(
    clean: Mapping[str, Float],
    truth: Mapping[str, NDArray[Any]],
    parameters: SurveyParameters,
    instrument: Instrument,
) -> dict[str, Float]:
    """Add to spectra what `survey.draw_nuisances` drew: a neighbour, shift, background, level."""
    spectra = {band: np.array(clean[band]) for band in BANDS}
    blended = np.flatnonzero(truth["blend_flux"] > 0)
    if blended.size:
        part = {name: np.asarray(truth[name])[blended] for name in truth}
        star = disperse_fluxes(
            lambda band: star_fluxes(
                part["blend_teff"], np.ones(blended.size), getattr(instrument, band).wavelength
            ),
            part,
            parameters,
            instrument=instrument,
        )
        flux = (part["blend_flux"] * part["rp_flux"])[:, None]
        for band in BANDS:
            moved = displace_coefficients(star[band], part["blend_separation"], band, instrument)
            spectra[band][blended] += flux * moved
    for band in BANDS:
        moved = shift_coefficients(spectra[band], truth["shift"], band, instrument)
        moved += np.multiply.outer(
            truth[f"background_{band}"], constant_coefficients(band, instrument)
        )
        spectra[band] = moved * (1.0 + np.asarray(truth[f"level_error_{band}"]))[:, None]
    return spectra


def observe_sources(
    clean: Mapping[str, Float],
    truth: Mapping[str, NDArray[Any]],
    rng: np.random.Generator,
    parameters: SurveyParameters,
    *,
    columns: Mapping[str, tuple[str | None, str]],
    source_id: NDArray[np.int64],
    label: str,
    correlations: bool = True,
    noise: bool = True,
    instrument: Instrument | None = None,
) -> XPSpectra:
    """Disturb spectra, (n, k) a band in e-/s, add noise, and put them into the archive's form.

    Of ``truth`` those in ``columns`` (name to unit and description) go along; ``label`` says where
    the spectra came from.
    """
    from astropy.table import Table

    chosen = instrument or load_instrument()
    n = len(truth["rp_flux"])
    spectra = disturb_sources(clean, truth, parameters, chosen) if noise else dict(clean)
    table = Table({name: truth[name] for name in columns})
    for name, (unit, description) in columns.items():
        table[name].description = description
        if unit:
            table[name].unit = unit
    parts = {}
    for band in BANDS:
        transits = np.asarray(truth[f"transits_{band}"])
        published = chosen.publish(spectra[band], band)
        noisy, errors, triangle, deviation = draw_noise(
            published,
            transits,
            band,
            rng,
            level_sigma=truth[f"level_sigma_{band}"],
            error_scatter=parameters.published_error_scatter,
            correlations=correlations,
            instrument=chosen,
        )
        parts[band] = BandSpectra(
            coefficients=noisy if noise else published,
            errors=errors,
            correlations=triangle,
            n_coefficients=np.full(n, published.shape[1], dtype=np.int16),
            basis_id=np.full(n, getattr(chosen, band).basis_id or -1, dtype=np.int16),
        )
        table[f"{band}_n_measurements"] = transits.astype(np.int32) * SAMPLES_PER_TRANSIT
        table[f"{band}_standard_deviation"] = deviation.astype(np.float32)
    return XPSpectra(
        source_id=source_id,
        bp=parts["bp"],
        rp=parts["rp"],
        columns=table,
        release="DR3" if chosen is load_instrument() else None,
        meta={"inputs": [label]},
    )
