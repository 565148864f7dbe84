"""Compare the noise model with the published errors and correlations of real sources."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, N_BP
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.sampling.bases import compute_design_matrices
from gaia_redshift.simulate.instrument import BANDS, N_BASES
from gaia_redshift.simulate.noise import (
    SAMPLES_PER_TRANSIT,
    coefficient_covariance,
    triangle_indices,
)
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["BAND_SAMPLES", "LAGS", "compute_autocorrelation", "predict_errors", "read_real_sources"]

Float = NDArray[np.float64]

BAND_SAMPLES = {"bp": slice(0, N_BP), "rp": slice(N_BP, None)}
"""Each band's place in the vector of 186 samples."""
LAGS = np.arange(1, 9)
"""Distances in samples at which noise is correlated with itself."""


def read_real_sources(path: str | os.PathLike[str]) -> XPSpectra:
    """Read real spectra, and keep those whose noise can be predicted.

    Parameters
    ----------
    path : path
        A file of DR3 spectra as DataLink delivers them, with errors, correlations and the columns
        ``bp_n_measurements``, ``bp_standard_deviation`` and RP's.

    Returns
    -------
    XPSpectra

    Raises
    ------
    InputError
        If columns are missing or no row is usable.
    """
    from gaia_redshift.readers import read_spectra

    names = [f"{b}_{name}" for b in BANDS for name in ("n_measurements", "standard_deviation")]
    spectra = read_spectra(path, keep=names)
    usable = np.ones(len(spectra), dtype=bool)
    assert spectra.columns is not None
    for band in BANDS:
        part: BandSpectra = getattr(spectra, band)
        usable &= part.n_coefficients == N_BASES
        for values in (part.coefficients, part.errors, part.correlations):
            if values is None:
                raise InputError(f"{os.fspath(path)} has no errors or correlations to compare with")
            usable &= np.isfinite(values).all(axis=1)
        for name in ("n_measurements", "standard_deviation"):
            usable &= _column(spectra, f"{band}_{name}") > 0
    if not usable.any():
        raise InputError(f"{os.fspath(path)} has no complete source with 55 + 55 coefficients")
    return spectra[np.flatnonzero(usable)]


def _column(spectra: XPSpectra, name: str) -> Float:
    assert spectra.columns is not None
    values: Any = np.ma.filled(np.ma.asarray(spectra.columns[name], dtype=float), np.nan)
    return values


def count_transits(spectra: XPSpectra, band: str) -> Float:
    """Return the number of transits behind each spectrum, shape (n,)."""
    return _column(spectra, f"{band}_n_measurements") / SAMPLES_PER_TRANSIT


def predict_errors(spectra: XPSpectra) -> XPSpectra:
    """Replace published errors and correlations by those that the noise model predicts.

    The prediction is for the same coefficients and transits; as in the published errors, the
    standard deviation of the fit multiplies it.
    """
    row, column = triangle_indices()
    bands = {}
    for band in BANDS:
        part = getattr(spectra, band)
        covariance = coefficient_covariance(part.coefficients, count_transits(spectra, band), band)
        errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        bands[band] = replace(
            part,
            errors=errors * _column(spectra, f"{band}_standard_deviation")[:, None],
            correlations=covariance[:, row, column] / (errors[:, row] * errors[:, column]),
        )
    return replace(spectra, **bands)


def compute_autocorrelation(spectra: XPSpectra, band: str) -> Float:
    """Return the autocorrelation of the noise of the band's samples, from its covariance.

    Returns
    -------
    ndarray, shape (n, 8)
        For each source, the mean correlation of samples that lie `LAGS` apart.
    """
    part = getattr(spectra, band)
    design = compute_design_matrices(DEFAULT_GRID)[band]
    row, column = triangle_indices()
    result = np.empty((len(spectra), LAGS.size))
    for i in range(len(spectra)):  # a matrix of samples at a time: memory stays small
        matrix = np.eye(N_BASES)
        matrix[row, column] = matrix[column, row] = part.correlations[i]
        scaled = design * part.errors[i][:, None]
        covariance = scaled.T @ matrix @ scaled
        sigma = np.sqrt(np.diagonal(covariance))
        correlation = covariance / np.outer(sigma, sigma)
        result[i] = [np.diagonal(correlation, lag).mean() for lag in LAGS]
    return result


def compare_noise(spectra: XPSpectra, flux_range: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Compare predicted with published errors, sample by sample.

    Parameters
    ----------
    spectra : XPSpectra
        What `read_real_sources` returned.
    flux_range : dict
        For each band, from and to which mean flux of its samples (e-/s) galaxies lie.

    Returns
    -------
    dict
        Per band: ``flux_range``; for sources in it and for all with positive flux, their number
        and the 16th, 50th and 84th percentile of predicted over published flux errors; the
        median autocorrelation from published and from predicted covariances (in the range).
    """
    predicted = predict_errors(spectra)
    real_vectors, model_vectors = sample_spectra(spectra), sample_spectra(predicted)
    assert real_vectors.flux_error is not None
    assert model_vectors.flux_error is not None
    out: dict[str, Any] = {}
    for band in BANDS:
        samples = BAND_SAMPLES[band]
        ratio = model_vectors.flux_error[:, samples] / real_vectors.flux_error[:, samples]
        mean = real_vectors.flux[:, samples].mean(axis=1)
        low, high = flux_range[band]
        inside = np.flatnonzero((mean >= low) & (mean <= high) & np.isfinite(ratio).all(axis=1))
        every = np.flatnonzero((mean > 0) & np.isfinite(ratio).all(axis=1))
        found: dict[str, Any] = {"flux_range": [float(low), float(high)]}
        for name, rows in (("galaxy_range", inside), ("all", every)):
            percentiles = np.percentile(ratio[rows], [16, 50, 84]) if rows.size else [np.nan] * 3
            found[name] = {"n": int(rows.size), "ratio_16_50_84": np.asarray(percentiles).tolist()}
        if inside.size:
            found["autocorrelation_real"] = np.median(
                compute_autocorrelation(spectra[inside], band), axis=0
            ).tolist()
            found["autocorrelation_predicted"] = np.median(
                compute_autocorrelation(predicted[inside], band), axis=0
            ).tolist()
        out[band] = found
    return out
