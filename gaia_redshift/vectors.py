"""Vectors of 186 fluxes made by others: from plain arrays, and what is wrong with them.

Whether they are in e-/s per sample, their own noise and photometry say. A mean spectrum's noise at
short periods follows from its mean flux (photons and read-out) and the number of transits, which
is 24 to 47 for 90 % of galaxies. Point values per unit pseudo-wavelength (2.8 times too large),
fluxes scaled to 0..1, or another unit do not fit. One vector alone says it roughly; a whole block
of vectors from the same hand says it surely. Bright spectra, whose own features exceed their
noise, are not judged.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._threads import as_slice, multiply_rows
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import FATAL, QualityFlag
from gaia_redshift.grid import N_BP, N_FLUX, SamplingGrid
from gaia_redshift.readers.values import to_numbers
from gaia_redshift.spectra import FluxVectors

__all__ = [
    "PHOTOMETRY",
    "check_vectors",
    "filter_variance",
    "flag_unit",
    "make_vectors",
    "measure_roughness",
    "warn_of_unit",
]

Float = NDArray[np.float64]

PHOTOMETRY = ("phot_bp_mean_flux", "phot_rp_mean_flux")
"""Columns of the input, e-/s, with which the sum of the samples is compared if they are there."""
_WINDOW, _ORDER = 15, 3
_JUDGED = (-2.5, 3.5)
"""ln of the mean flux (e-/s per sample) between which vectors are judged."""
_CURVE = (0.0078, 0.0353, 0.0314, -2.0118)
"""Polynomial in ln(mean flux): ln of the roughness of 8,000 simulated galaxies of the survey "sdss"
(``python benchmarks/flux_unit.py``), 0.19 rms; faint real stars lie 0.25 above it."""
_ROW, _BLOCK, _FEWEST = 1.1, 0.5, 10
"""Largest departures from the curve, of one vector and of the median of a block of so many."""
_SMOOTH, _FAINT = -1.6, np.log(0.5)
_KEPT = (0.5, 1.15)
"""Sum of the kept samples over the photometric flux: less in galaxies, whose light spreads; never
more."""


def make_vectors(
    flux: ArrayLike, flux_error: ArrayLike | None, source_id: ArrayLike | None, grid: SamplingGrid
) -> FluxVectors:
    """Make `FluxVectors` of arrays (n, 186) or (186,), e-/s per sample; masked entries are NaN.

    ``source_id`` (n,) is by default 0 to n - 1. Raises `InputError` if a shape or type is wrong.
    """
    fluxes = _to_matrix(flux, "fluxes")
    errors = None if flux_error is None else _to_matrix(flux_error, "flux errors")
    ids: Any = np.arange(len(fluxes)) if source_id is None else source_id
    return FluxVectors(source_id=ids, flux=fluxes, flux_error=errors, grid=grid)


def _to_matrix(values: Any, what: str) -> NDArray[np.float64]:
    values = _without_unit(values, what)
    try:
        masked = np.ma.asarray(values, dtype=np.float64)
        matrix = np.atleast_2d(np.ma.filled(masked, np.nan))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} must be FluxVectors or an array of shape (n, {N_FLUX}), not"
            f" {type(values).__name__}: predict_table takes spectra in every other form"
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] != N_FLUX:
        raise InputError(f"{what} must have shape (n, {N_FLUX}), not {np.shape(values)}")
    return matrix


def _without_unit(values: Any, what: str) -> Any:
    """Take electrons per second (or bare counts per second) of a quantity, refuse other units."""
    if getattr(values, "unit", None) is None or not hasattr(values, "to_value"):
        return values
    from astropy import units

    for unit in (units.electron / units.s, 1 / units.s, units.dimensionless_unscaled):
        if values.unit.is_equivalent(unit):
            return values.to_value(unit)
    raise InputError(
        f"{what} have the unit {values.unit}; those of internal spectra are needed, in electrons"
        " per second and sample (sample_spectra makes them from coefficients)"
    )


def check_vectors(vectors: FluxVectors, uses_errors: bool) -> NDArray[np.int32]:
    """Return the quality bits, with those that vectors made by hand do not carry yet."""
    quality = vectors.quality.astype(np.int32)
    usable = (quality & FATAL) == 0
    finite = np.all(np.isfinite(vectors.flux), axis=1)
    quality[usable & ~finite] |= QualityFlag.NON_FINITE_FLUX
    positive = np.where(np.reshape(finite, (-1, 1)), vectors.flux, 0.0).sum(axis=1) > 0
    quality[usable & finite & ~positive] |= QualityFlag.NON_POSITIVE_FLUX
    usable = (quality & FATAL) == 0
    known = quality & (QualityFlag.NO_FLUX_ERROR | QualityFlag.BAD_FLUX_ERROR)
    if vectors.flux_error is not None:
        errors = np.asarray(vectors.flux_error)
        absent = np.isnan(errors).all(axis=1)
        with np.errstate(invalid="ignore"):
            good = (np.isfinite(errors) & (errors > 0)).all(axis=1)
        quality[usable & absent & (known == 0)] |= QualityFlag.NO_FLUX_ERROR
        quality[usable & ~absent & ~good] |= QualityFlag.BAD_FLUX_ERROR
    elif uses_errors:
        quality[usable & (known == 0)] |= QualityFlag.NO_FLUX_ERROR
    return quality


def measure_roughness(flux: NDArray[np.floating]) -> Float:
    """Return ln of the rms residual (n,) of a Savitzky-Golay filter on both bands, (n, 186)."""
    total = sum(filter_variance(flux[:, b], _WINDOW) for b in (slice(N_BP), slice(N_BP, None)))
    with np.errstate(divide="ignore"):
        return np.asarray(0.5 * np.log(total))


def filter_variance(flux: NDArray[np.floating], window: int) -> Float:
    """Variance (n,) of what a Savitzky-Golay filter of third order leaves of a band's flux (n, m).

    ``window``: samples of the filter, an odd number.
    """
    left = multiply_rows(np.asarray(flux, np.float64), _build_filter(flux.shape[1], window))
    return np.asarray(np.var(left, axis=1))


@lru_cache
def _build_filter(m: int, window: int) -> Float:
    """Matrix (m, m - window + 1): what the filter leaves of m samples, but for the ends."""
    half = window // 2
    # Savitzky & Golay (1964): the value at the middle of a polynomial fitted to the window.
    fit = np.linalg.pinv(np.vander(np.arange(-half, half + 1.0), _ORDER + 1, increasing=True))[0]
    kernel = -fit
    kernel[half] += 1.0
    return np.asarray(
        sum(value * np.eye(m, m - window + 1, -k) for k, value in enumerate(kernel.tolist()))
    )


def flag_unit(vectors: FluxVectors, columns: Any = None) -> tuple[NDArray[np.int32], float | None]:
    """Flag vectors of one input that cannot be in e-/s per sample.

    ``columns`` may hold ``phot_bp_mean_flux`` and ``phot_rp_mean_flux``. Returns DOUBTFUL_UNIT or
    0, shape (n,), and by how much the whole block seems too large, if it is doubtful as a whole, or
    None.
    """
    n = len(vectors)
    doubtful = np.zeros(n, dtype=bool)
    factor = None
    rows = np.flatnonzero((vectors.quality & int(FATAL)) == 0)
    if rows.size:
        flux = vectors.flux[as_slice(rows)]
        log_mean = np.log(np.maximum(flux.mean(axis=1), 1e-6))
        excess = measure_roughness(flux) - np.polyval(_CURVE, np.maximum(log_mean, _JUDGED[0]))
        # Spectra without noise say nothing, but for those that are too faint to be so smooth.
        judged = (log_mean < _JUDGED[1]) & ((excess > _SMOOTH) | (log_mean < _FAINT))
        doubtful[rows] = judged & ~(np.abs(excess) <= _ROW)
        middle = float(np.median(excess[judged])) if judged.any() else 0.0
        if judged.sum() >= _FEWEST and abs(middle) > _BLOCK:
            doubtful[rows] = True
            factor = float(np.exp(1.35 * middle))  # noise grows with the mean flux as well
    ratio = _compare_photometry(vectors, columns)
    if ratio is not None:
        known = np.isfinite(ratio)
        doubtful[known] = (ratio[known] < _KEPT[0]) | (ratio[known] > _KEPT[1])
        if known.sum() >= _FEWEST:
            middle = float(np.median(ratio[known]))
            factor = middle if not _KEPT[0] <= middle <= _KEPT[1] else None
    return np.where(doubtful, np.int32(QualityFlag.DOUBTFUL_UNIT), np.int32(0)), factor


def _compare_photometry(vectors: FluxVectors, columns: Any) -> Float | None:
    """Sum of the kept samples over the photometric flux of both bands, shape (n,), or None."""
    have = [] if columns is None else columns.colnames
    if any(name not in have for name in PHOTOMETRY):
        return None
    total = sum(np.asarray(to_numbers(columns[name])) for name in PHOTOMETRY)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(total > 0, vectors.flux.sum(axis=1) / total, np.nan)
    ratio[(vectors.quality & int(FATAL)) != 0] = np.nan
    return np.asarray(ratio)


def warn_of_unit(factors: list[float], stacklevel: int) -> None:
    """Give one warning about blocks that are doubtful as a whole, if there are any."""
    if factors:
        middle = float(np.median(factors))
        large = middle > 1
        words = (
            f"about {middle if large else 1 / middle:.2g} times too {'large' if large else 'small'}"
        )
        warnings.warn(
            f"the fluxes look {words} for e-/s per sample, by their noise or by the photometry:"
            " vectors are gaiaxpy.convert's values times the width of a sample (sample_spectra"
            " makes them); flagged doubtful_unit",
            GaiaRedshiftWarning,
            stacklevel=stacklevel,
        )
