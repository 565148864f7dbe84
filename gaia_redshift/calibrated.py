"""Spectra in physical units, by GaiaXPy's external calibration: `calibrate_spectra`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._display import format_facts, name_some
from gaia_redshift._quiet import preserve_settings, quiet_gaiaxpy
from gaia_redshift.errors import InputError
from gaia_redshift.sampling.sample import multiply_pairs, sample_variance
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["CalibratedSpectra", "calibrate_spectra"]

Float = NDArray[np.float64]

_BASES = {"bp": 56, "rp": 57}
"""The archive's ids of DR3's sets of bases."""
_ROWS = 256


@dataclass(frozen=True, eq=False)
class CalibratedSpectra:
    """Externally calibrated spectra of n sources, BP and RP joined.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
    wavelength : ndarray, shape (w,), nm
    flux : ndarray, shape (n, w), W m-2 nm-1
        NaN in rows without both bands, or on other bases than DR3's.
    flux_error : ndarray, shape (n, w), W m-2 nm-1
        NaN in rows without usable errors.
    """

    source_id: NDArray[np.int64]
    wavelength: Float
    flux: Float
    flux_error: Float

    def __len__(self) -> int:
        return len(self.source_id)

    def __repr__(self) -> str:
        return f"<CalibratedSpectra: {len(self)} sources, {len(self.wavelength)} wavelengths>"

    def _repr_html_(self) -> str:
        w = self.wavelength
        facts = [
            ("sources", f"{len(self):,}"),
            ("wavelengths", f"{len(w)}, {w[0]:g} to {w[-1]:g} nm"),
            ("unit", "W m-2 nm-1"),
            ("source_id", name_some(self.source_id)),
        ]
        return format_facts("CalibratedSpectra", facts)


@preserve_settings()
def calibrate_spectra(spectra: XPSpectra, wavelength: ArrayLike | None = None) -> CalibratedSpectra:
    """Turn coefficients into flux densities, as ``gaiaxpy.calibrate`` does.

    Parameters
    ----------
    spectra : XPSpectra
        On DR3's bases.
    wavelength : array-like, shape (w,), nm, optional
        Rising, from 330 to 1050; by default 336 to 1020 in steps of 2.

    Returns
    -------
    CalibratedSpectra

    Raises
    ------
    InputError
        If it is not an `XPSpectra`, of another release than DR3, or GaiaXPy does not take the
        wavelengths.

    Notes
    -----
    The calibration is that of Montegriffo et al. (2023), which holds for point sources. It is
    linear: GaiaXPy is asked for it once, and fluxes and errors agree with GaiaXPy's. Where BP and
    RP overlap they are joined with its weights.
    """
    if not isinstance(spectra, XPSpectra):
        kind = type(spectra).__name__
        why = ": sampled vectors cannot be calibrated" if kind == "FluxVectors" else ""
        raise InputError(f"calibrate_spectra takes XPSpectra, not {kind}{why}")
    if spectra.release not in (None, "DR3"):
        raise InputError(f"GaiaXPy's calibration is that of DR3, these are of {spectra.release}")
    wanted = None if wavelength is None else tuple(np.asarray(wavelength, dtype=float).tolist())
    try:
        at, bp, rp = _load_response(wanted)
    except ValueError as error:
        raise InputError(f"the wavelengths cannot be used: {error}") from error
    n = len(spectra)
    flux, variance = np.full((2, n, len(at)), np.nan)
    k = len(bp)
    usable = np.flatnonzero(_is_known(spectra.bp, k) & _is_known(spectra.rp, k) & _is_dr3(spectra))
    flux[usable], variance[usable] = 0.0, 0.0
    for band, response in ((spectra.bp, bp), (spectra.rp, rp)):
        tables = multiply_pairs(response)
        for start in range(0, len(usable), _ROWS):
            rows = usable[start : start + _ROWS]
            flux[rows] += band.coefficients[rows, :k] @ response
            if band.errors is None:
                variance[rows] = np.nan
            else:
                variance[rows] += sample_variance(band, rows, *tables)[0]
    return CalibratedSpectra(spectra.source_id, at, flux, np.sqrt(np.maximum(variance, 0.0)))


def _is_known(band: BandSpectra, k: int) -> NDArray[np.bool_]:
    finite = np.isfinite(band.coefficients[:, :k]).all(axis=1)
    return np.asarray((band.n_coefficients == k) & finite)


def _is_dr3(spectra: XPSpectra) -> NDArray[np.bool_]:
    """Tell which rows say nothing of their bases, or that they are DR3's."""
    good = np.ones(len(spectra), dtype=bool)
    for band, basis in _BASES.items():
        given = getattr(spectra, band).basis_id
        good &= (given <= 0) | (given == basis)
    return good


@lru_cache(maxsize=4)
def _load_response(wavelength: tuple[float, ...] | None) -> tuple[Float, Float, Float]:
    """Wavelengths, and what one unit of each coefficient of BP and of RP is: (55, w) each.

    GaiaXPy calibrates spectra of one coefficient each.
    """
    import pandas as pd

    k = 55
    triangle = np.zeros(k * (k - 1) // 2)
    rows: list[dict[str, Any]] = []
    for number in range(2 * k):
        row: dict[str, Any] = {"source_id": number}
        for band, basis, first in (("bp", _BASES["bp"], 0), ("rp", _BASES["rp"], k)):
            coefficients = np.zeros(k)
            if first <= number < first + k:
                coefficients[number - first] = 1.0
            row |= {
                f"{band}_basis_function_id": basis,
                f"{band}_n_parameters": k,
                f"{band}_n_relevant_bases": k,
                f"{band}_standard_deviation": 1.0,
                f"{band}_coefficients": coefficients,
                f"{band}_coefficient_errors": np.ones(k),
                f"{band}_coefficient_correlations": triangle,
            }
        rows.append(row)
    with quiet_gaiaxpy():
        from gaiaxpy.calibrator import calibrator

        at = None if wavelength is None else np.asarray(wavelength)
        # Its bar goes to the stdout of its import, whatever stdout is now.
        with patch.object(calibrator, "stdout", io.StringIO(), create=True):
            table, positions = calibrator.calibrate(
                pd.DataFrame(rows), sampling=at, save_file=False
            )
    flux = np.stack([np.asarray(one, dtype=np.float64) for one in table["flux"]])
    return np.asarray(positions, dtype=np.float64), flux[:k], flux[k:]
