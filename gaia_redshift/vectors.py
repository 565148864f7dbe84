"""Vectors of 186 fluxes that were made by hand: from plain arrays, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.flags import FATAL, QualityFlag
from gaia_redshift.grid import N_FLUX, SamplingGrid
from gaia_redshift.spectra import FluxVectors

__all__ = ["check_vectors", "make_vectors"]


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
