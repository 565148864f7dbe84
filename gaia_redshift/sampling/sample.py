"""From XP coefficients to vectors of 186 fluxes and their errors (`XPSpectra` -> `FluxVectors`).

Flux is ``c @ B``, one matrix product per band and set of bases: the bases' values at the samples,
as in GaiaXPy's converter, times the samples' widths, which makes e-/s per sample of e-/s per unit
pseudo-wavelength. The
variance of a sample is ``b^T E C E b`` (E: coefficient errors, C: their correlations). It is
linear in the products ``c_ij e_i e_j``, so that a block of sources costs one matrix product with
the table of ``2 b_i b_j``; this was measured to be faster than building each source's (k, k)
matrix.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import show_progress
from gaia_redshift._threads import Crew, as_slice, multiply_rows
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import FATAL, NOT_FETCHED, QualityFlag
from gaia_redshift.grid import DEFAULT_GRID, N_BP, N_FLUX, SamplingGrid
from gaia_redshift.sampling.bases import (
    BasisSet,
    compute_design_matrices,
    find_basis_set,
)
from gaia_redshift.spectra import BandSpectra, FluxVectors, XPSpectra, n_correlations

__all__ = ["sample_block", "sample_spectra", "warn_of_unknown_sets"]

logger = logging.getLogger(__name__)

ERROR_BLOCK = 128
"""Sources whose covariances are worked on at once: 1.5 MB a band, which malloc keeps for the next
ones; with larger ones the system's clearing of new memory can take as long as all else here."""
NO_ERROR = int(QualityFlag.NO_FLUX_ERROR)
CORRELATION_SLACK = 1e-4
"""How far beyond 1 a correlation may lie: the archive stores them with 32 bits."""


def sample_spectra(
    spectra: XPSpectra,
    *,
    grid: SamplingGrid = DEFAULT_GRID,
    errors: bool = True,
    progress: bool = False,
) -> FluxVectors:
    """Sample BP and RP spectra where the vector of 186 fluxes wants them.

    Parameters
    ----------
    spectra : XPSpectra
        As `gaia_redshift.read_spectra` returns them.
    grid : SamplingGrid
        Where the samples lie.
    errors : bool
        Compute flux errors: from errors and correlations where the row has both, from errors alone
        where it has no correlations (flag ``diagonal_flux_error``).
    progress : bool
        Show a progress bar.

    Returns
    -------
    FluxVectors
        One row per source, in order. Rows that cannot be sampled are NaN and carry a flag.

    Raises
    ------
    InputError
        If ``spectra`` is not an `XPSpectra`.

    Warns
    -----
    GaiaRedshiftWarning
        If rows are on a set of bases that nobody knows.

    Notes
    -----
    ``gaiaxpy.convert(..., truncation=False)`` gives values per unit pseudo-wavelength; fluxes and
    errors here are those times the width of a sample (0.36 in RP and 0.35 in BP on the default
    grid), that is e-/s per sample, as in the vectors of Gaia's Unresolved Galaxy Classifier.
    Summed over all samples of a band they give its photometric flux.
    """
    if not isinstance(spectra, XPSpectra):
        raise InputError(
            f"sample_spectra takes XPSpectra, not {type(spectra).__name__}: call read_spectra"
            " first, or predict_table for everything at once"
        )
    vectors, unknown = sample_block(spectra, grid=grid, errors=errors, progress=progress)
    warn_of_unknown_sets(unknown, stacklevel=4)
    return vectors


def sample_block(
    spectra: XPSpectra, *, grid: SamplingGrid, errors: bool, progress: bool = False
) -> tuple[FluxVectors, list[str]]:
    """Do the work of `sample_spectra`, but return the unknown sets of bases instead of warning.

    They are descriptions for `warn_of_unknown_sets`.
    """
    n = len(spectra)
    quality = spectra.flags.astype(np.int32)  # a copy
    flux = np.full((n, N_FLUX), np.nan)
    flux_error = np.full((n, N_FLUX), np.nan) if errors else None

    for band, flag in (
        (spectra.bp, QualityFlag.MISSING_BP),
        (spectra.rp, QualityFlag.MISSING_RP),
    ):
        absent = (band.n_coefficients == 0) & ((quality & NOT_FETCHED) == 0)
        quality[absent] |= flag
    groups, unknown = _group_by_basis_set(spectra, quality)
    for basis_set, members in groups:
        rows = members[_finite_coefficients(spectra, members, basis_set, quality)]
        matrices = compute_design_matrices(grid, basis_set)
        chosen = as_slice(rows)
        with np.errstate(over="ignore", invalid="ignore"):  # found by the sum below
            bp = spectra.bp.coefficients[chosen, : basis_set.n_bp]
            rp = spectra.rp.coefficients[chosen, : basis_set.n_rp]
            flux[chosen, :N_BP] = multiply_rows(bp, matrices["bp"])
            flux[chosen, N_BP:] = multiply_rows(rp, matrices["rp"])
        if flux_error is not None:
            tables = _product_tables(grid, basis_set)
            _add_flux_errors(spectra, rows, tables, flux_error, quality, progress=progress)

    usable = (quality & FATAL) == 0
    with np.errstate(over="ignore", invalid="ignore"):
        total = flux.sum(axis=1)
    quality[usable & ~np.isfinite(total)] |= QualityFlag.NON_FINITE_FLUX
    quality[usable & (total <= 0)] |= QualityFlag.NON_POSITIVE_FLUX
    fatal = (quality & FATAL) != 0
    flux[fatal] = np.nan
    if flux_error is not None:
        flux_error[fatal] = np.nan
        if np.isnan(flux_error).all():
            flux_error = None
    vectors = FluxVectors(
        source_id=spectra.source_id,
        flux=flux,
        flux_error=flux_error,
        quality=quality,
        grid=grid,
        columns=spectra.columns,
        meta={**spectra.meta, **_describe_origin(spectra, [one for one, _ in groups])},
    )
    return vectors, unknown


def _describe_origin(spectra: XPSpectra, sets: list[BasisSet]) -> dict[str, Any]:
    """Say of which release spectra are, or, where nothing says it, on which bases they are."""
    if spectra.release:
        return {"release": spectra.release}
    return {"bases": {one.name: one.release for one in sets}}


def warn_of_unknown_sets(unknown: Iterable[str], stacklevel: int) -> None:
    """Give one warning that names the sets of bases without a redshift, if there are any."""
    named = "; ".join(dict.fromkeys(unknown))
    if named:
        warnings.warn(
            "no redshift for sources on a set of bases that this version does not know:"
            f" {named} (a newer GaiaXPy or register_basis_set can add it)",
            GaiaRedshiftWarning,
            stacklevel=stacklevel,
        )


def _group_by_basis_set(
    spectra: XPSpectra, quality: NDArray[np.int32]
) -> tuple[list[tuple[BasisSet, NDArray[np.intp]]], list[str]]:
    """Find each row's set of bases, flagging rows that have none or do not fit theirs.

    Returns the known sets with their rows, and the unknown ones in words.
    """
    rows = np.flatnonzero((quality & FATAL) == 0)
    numbers = (
        spectra.bp.n_coefficients,
        spectra.rp.n_coefficients,
        spectra.bp.basis_id,
        spectra.rp.basis_id,
    )
    keys = np.zeros(len(rows), dtype=np.int64)  # four numbers of 16 bits: quicker than rows
    for values in numbers:
        keys = (keys << 16) | (values[rows].astype(np.int64) & 0xFFFF)
    if len(keys) and (keys == keys[0]).all():
        groups = [rows]
    else:
        unique, which = np.unique(keys, return_inverse=True)
        groups = [rows[which.reshape(-1) == index] for index in range(len(unique))]
    members: dict[BasisSet, list[NDArray[np.intp]]] = {}
    unknown = []
    for chosen in groups:
        n_bp, n_rp, bp_id, rp_id = (int(values[chosen[0]]) for values in numbers)
        basis_set = find_basis_set(n_bp, n_rp, bp_id, rp_id)
        if basis_set is None:
            quality[chosen] |= QualityFlag.UNKNOWN_BASIS
            ids = f", basis ids {bp_id} and {rp_id}" if max(bp_id, rp_id) > 0 else ""
            unknown.append(f"{n_bp} BP + {n_rp} RP coefficients{ids}")
        elif (basis_set.n_bp, basis_set.n_rp) != (n_bp, n_rp):
            quality[chosen] |= QualityFlag.BAD_COEFFICIENT_COUNT
            logger.info(
                "%d sources have %d + %d coefficients; their basis set %s has %d + %d",
                *(len(chosen), n_bp, n_rp, basis_set.name, basis_set.n_bp, basis_set.n_rp),
            )
        else:
            members.setdefault(basis_set, []).append(chosen)
    known = [(basis_set, np.sort(np.concatenate(parts))) for basis_set, parts in members.items()]
    return known, unknown


def _finite_coefficients(
    spectra: XPSpectra, rows: NDArray[np.intp], basis_set: BasisSet, quality: NDArray[np.int32]
) -> NDArray[np.bool_]:
    finite = np.ones(len(rows), dtype=bool)
    chosen = as_slice(rows)
    for band, k in ((spectra.bp, basis_set.n_bp), (spectra.rp, basis_set.n_rp)):
        finite &= np.isfinite(band.coefficients[chosen, :k]).all(axis=1)
    quality[rows[~finite]] |= QualityFlag.NON_FINITE_FLUX
    return finite


def _add_flux_errors(
    spectra: XPSpectra,
    rows: NDArray[np.intp],
    tables: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    flux_error: NDArray[np.float64],
    quality: NDArray[np.int32],
    *,
    progress: bool,
) -> None:
    """Fill in the errors of some rows, and the flags about them, block by block."""
    # Slices where rows are consecutive: no fancy indexing.
    blocks = [as_slice(rows[i : i + ERROR_BLOCK]) for i in range(0, len(rows), ERROR_BLOCK)]

    def work(number: int) -> None:
        chosen = blocks[number]
        flux_error[chosen], found = _sample_flux_errors(spectra, chosen, tables)
        # The reader drops unusable errors: they are then bad, not absent.
        found[(quality[chosen] & QualityFlag.BAD_FLUX_ERROR) != 0] &= ~NO_ERROR
        quality[chosen] |= found
        advance(1)

    bar = show_progress("flux errors", len(blocks), unit="block", shown=progress, leave=False)
    with bar as advance:
        _get_crew().share(work, len(blocks))


@lru_cache(maxsize=1)
def _get_crew() -> Crew:
    return Crew()


def _sample_flux_errors(
    spectra: XPSpectra,
    rows: slice | NDArray[np.intp],
    tables: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the errors (n, 186) of some rows, and flag bits (n,)."""
    n = len(spectra.source_id[rows])
    if spectra.bp.errors is None or spectra.rp.errors is None:
        return np.full((n, N_FLUX), np.nan), np.full(n, QualityFlag.NO_FLUX_ERROR, dtype=np.int32)
    parts = [
        sample_variance(band, rows, *tables[name])
        for name, band in (("bp", spectra.bp), ("rp", spectra.rp))
    ]
    flags = parts[0][1] | parts[1][1]
    missing = (flags & QualityFlag.NO_FLUX_ERROR) != 0
    useless = missing | ((flags & QualityFlag.BAD_FLUX_ERROR) != 0)
    flags[useless] &= ~int(QualityFlag.DIAGONAL_FLUX_ERROR)
    flags[missing] = QualityFlag.NO_FLUX_ERROR
    with np.errstate(invalid="ignore"):
        flux_error = np.sqrt(np.concatenate([variance for variance, _ in parts], axis=1))
    flux_error[useless] = np.nan
    return flux_error, flags


def sample_variance(
    band: BandSpectra,
    rows: slice | NDArray[np.intp],
    squares: NDArray[np.float64],
    products: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the variance (n, m) of each sample, and flag bits (n,); see `multiply_pairs`."""
    k = len(squares)
    assert band.errors is not None
    errors = np.asarray(band.errors[rows, :k], dtype=np.float64)
    flags = np.zeros(len(errors), dtype=np.int32)
    missing = np.isnan(errors).all(axis=1)
    flags[missing] |= QualityFlag.NO_FLUX_ERROR
    bad = ~missing & ~(np.isfinite(errors) & (errors >= 0)).all(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):
        variance = multiply_rows(errors**2, squares)
    given: NDArray[np.bool_] = np.zeros(len(errors), dtype=bool)
    if band.correlations is not None and k > 1:
        triangle = band.correlations[rows, : n_correlations(k)]
        given |= ~np.isnan(triangle).all(axis=1) & ~missing & ~bad
        with np.errstate(invalid="ignore", over="ignore"):
            largest = np.maximum(triangle.max(axis=1), -triangle.min(axis=1))  # NaN where any is
            bad |= given & ~(largest.astype(np.float64) <= 1 + CORRELATION_SLACK)
            later, earlier = _list_pairs(k)
            covariances = np.take(errors, later, axis=1, mode="clip")
            covariances *= triangle
            covariances *= np.take(errors, earlier, axis=1, mode="clip")
            if given.all():
                variance += multiply_rows(covariances, products)
            elif given.any():
                variance[given] += multiply_rows(covariances[given], products)
    flags[~given & ~missing] |= QualityFlag.DIAGONAL_FLUX_ERROR
    with np.errstate(invalid="ignore"):
        bad |= ~missing & ~(np.isfinite(variance) & (variance > 0)).all(axis=1)
    flags[bad] |= QualityFlag.BAD_FLUX_ERROR
    return variance, flags


@lru_cache(maxsize=16)
def _product_tables(
    grid: SamplingGrid, basis_set: BasisSet
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    matrices = compute_design_matrices(grid, basis_set)
    return {band: multiply_pairs(matrix) for band, matrix in matrices.items()}


def multiply_pairs(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``b_i^2`` (k, m) and ``2 b_i b_j`` (k (k - 1) / 2, m) in the triangle's order."""
    j, i = _list_pairs(len(matrix))
    return matrix**2, 2 * matrix[i] * matrix[j]


@lru_cache(maxsize=16)
def _list_pairs(k: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Later and earlier coefficient of each pair, (k (k - 1) / 2,), in the triangle's order."""
    return np.tril_indices(k, -1)
