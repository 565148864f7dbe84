"""From blocks of columns to `XPSpectra`: padding, checks and flags, kept columns."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import GaiaRedshiftWarning
from gaia_redshift.flags import QualityFlag
from gaia_redshift.readers.arrays import Ragged, to_ragged
from gaia_redshift.readers.columns import BandLayout, Block, ReadOptions
from gaia_redshift.readers.values import build_kept_columns, to_numbers, to_source_ids
from gaia_redshift.spectra import BandSpectra, XPSpectra, n_correlations

__all__ = ["build_spectra", "flag_duplicates"]

logger = logging.getLogger(__name__)

LONGEST = 128
"""A row with more coefficients than this is cut and flagged (real sets of bases have 44 to 55)."""
CORRELATION_LIMIT = 1.0001
"""The archive stores correlations with 32 bits: they may exceed 1 by rounding only."""
GAIA_IDS_END = 12 << 59
"""Source ids begin with the number of a HEALPix cell of level 12 (12 * 4**12 cells), in 35 bits."""
SIMULATED_IDS = (7 * 10**18, 8 * 10**18)
"""Ids of this package's simulated galaxies."""
DR3_BASIS_IDS = {"bp": 56, "rp": 57}


def flag_duplicates(source_id: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find source ids that occur more than once.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64

    Returns
    -------
    ndarray, shape (n,), bool
        True for every occurrence, the first one included.

    Examples
    --------
    >>> flag_duplicates(np.array([7, 8, 7]))
    array([ True, False,  True])
    """
    _, inverse, counts = np.unique(source_id, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse.reshape(-1)] > 1)


def build_spectra(block: Block, options: ReadOptions) -> XPSpectra:
    """Normalise a block of columns, with flags for what is wrong in single rows."""
    layout = block.layout
    source_id = to_source_ids(block.columns[layout.source_id], block.label, block.first_row)
    _tell_strange_ids(source_id, block.label)
    n = len(source_id)
    flags = np.zeros(n, dtype=np.int32)

    bp = _build_band(block, layout.bp, options, flags, missing=QualityFlag.MISSING_BP)
    rp = _build_band(block, layout.rp, options, flags, missing=QualityFlag.MISSING_RP)
    return XPSpectra(
        source_id=source_id,
        bp=bp,
        rp=rp,
        flags=flags,
        columns=build_kept_columns(block) if options.keep or options.optional else None,
        release=block.release or find_release(block.label, bp, rp),
        meta={"inputs": [block.source]},
    )


def _tell_strange_ids(source_id: NDArray[np.int64], label: str) -> None:
    """Warn of ids that Gaia cannot have given: shifted or damaged bytes look like that."""
    strange = (source_id < 0) | (source_id >= SIMULATED_IDS[1])
    strange |= (source_id >= GAIA_IDS_END) & (source_id < SIMULATED_IDS[0])
    if strange.any():
        warnings.warn(
            f"{label}: holds source ids that Gaia does not give, such as"
            f" {source_id[np.argmax(strange)]} (file damaged?)",
            GaiaRedshiftWarning,
            stacklevel=2,
        )


def find_release(label: str, bp: BandSpectra, rp: BandSpectra) -> str | None:
    """Return the release that the archive's file name, the basis ids or a registered set say.

    A name speaks of DR3 only where the bases are DR3's as well.
    """
    named = re.search(r"gaia[ _-]?(dr\d+)(?![0-9])", label, re.IGNORECASE)
    release = named[1].upper() if named else None
    if release is None and re.search(r"\bMEAN_SPECTRUM_XP(?!_?[A-Z]*LENS)", label):
        release = "DR4"
    ids = {"bp": bp.basis_id[bp.basis_id > 0], "rp": rp.basis_id[rp.basis_id > 0]}
    has_ids = any(len(v) for v in ids.values())
    if has_ids:
        on_dr3 = all((v == DR3_BASIS_IDS[band]).all() for band, v in ids.items())
    else:
        on_dr3 = all(np.isin(one.n_coefficients, (0, 55)).all() for one in (bp, rp))
    if release is not None and release != "DR3":
        return release
    if on_dr3 and (has_ids or release or re.search(r"\bXP_CONTINUOUS(?![A-Z])", label)):
        return "DR3"
    return None


def _build_band(
    block: Block,
    layout: BandLayout,
    options: ReadOptions,
    flags: NDArray[np.int32],
    *,
    missing: QualityFlag,
) -> BandSpectra:
    columns, n = block.columns, len(flags)
    ragged = _gather(block, layout.coefficients)
    coefficients = ragged.to_padded(LONGEST).astype(np.float64)  # never a view of the input
    lengths = np.minimum(ragged.lengths, LONGEST)
    said = np.full(n, np.nan)
    if layout.n_parameters is not None:
        said = to_numbers(columns[layout.n_parameters])
    lengths = _trim_padding(coefficients, lengths, said)
    finite = np.isfinite(coefficients)
    absent: NDArray[np.bool_] = np.zeros(n, dtype=bool)
    infinite = absent
    width = coefficients.shape[1]
    if not (width and finite.all() and (lengths == width).all()):
        inside = np.arange(width) < lengths[:, None]
        absent = np.asarray((np.isnan(coefficients) | ~inside).all(axis=1)) & ~ragged.damaged
        infinite = np.asarray((inside & ~finite).any(axis=1))
        lengths[absent] = 0
        flags[absent] |= missing
    wrong = ragged.damaged | (ragged.lengths > LONGEST)
    wrong |= ~absent & np.isfinite(said) & (said != lengths)
    flags[wrong] |= QualityFlag.BAD_COEFFICIENT_COUNT
    flags[infinite & ~absent] |= QualityFlag.NON_FINITE_FLUX

    k = int(lengths.max(initial=0))
    errors, correlations = None, None
    if options.errors:
        errors, correlations = _build_errors(block, layout, lengths, k, flags)
    basis_id = np.full(n, -1, dtype=np.int16)
    if layout.basis_id is not None:
        ids = to_numbers(columns[layout.basis_id])
        usable = (ids > 0) & (ids < np.iinfo(np.int16).max)
        basis_id[usable] = ids[usable].astype(np.int16)
    return BandSpectra(
        coefficients=coefficients[:, :k],
        errors=errors,
        correlations=correlations,
        n_coefficients=lengths.astype(np.int16),
        basis_id=basis_id,
    )


def _gather(block: Block, names: tuple[str, ...]) -> Ragged:
    """Return the arrays of a column, or of one a coefficient, in memory of their own."""
    columns = block.columns
    if not names:
        return Ragged.empty(len(block))
    if len(names) == 1:
        ragged = to_ragged(columns[names[0]])
        return replace(ragged, values=ragged.values.copy()) if block.shared else ragged
    return Ragged.from_matrix(np.stack([to_numbers(columns[name]) for name in names], axis=1))


def _trim_padding(
    padded: NDArray[np.float64], lengths: NDArray[np.int64], said: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Shorten rows of fixed-width columns to their stated number where only NaN lies beyond it."""
    lengths = lengths.copy()
    column = np.arange(padded.shape[1])
    longer = np.flatnonzero(np.isfinite(said) & (said >= 0) & (said < lengths))
    if len(longer):
        beyond = column >= said[longer, None]
        rows = longer[(np.isnan(padded[longer]) | ~beyond).all(axis=1)]
        lengths[rows] = said[rows].astype(np.int64)
    return lengths


def _build_errors(
    block: Block,
    layout: BandLayout,
    lengths: NDArray[np.int64],
    k: int,
    flags: NDArray[np.int32],
) -> tuple[NDArray[np.floating] | None, NDArray[np.floating] | None]:
    """Return errors and correlations, NaN in rows where either is unusable."""
    present = lengths > 0
    ragged = _gather(block, layout.errors)
    errors, given, bad = _fit(ragged, lengths, k)
    with np.errstate(invalid="ignore"):
        bad |= given & (errors < 0).any(axis=1)
    bad |= given & np.isinf(errors).any(axis=1)
    flags[present & ~given & ~bad] |= QualityFlag.NO_FLUX_ERROR

    correlations = None
    if layout.correlations:
        ragged = _gather(block, layout.correlations)
        correlations, given, mismatched = _fit(
            ragged, lengths * (lengths - 1) // 2, n_correlations(k)
        )
        with np.errstate(invalid="ignore", over="ignore"):
            if ragged.text:  # the archive's own precision, at half the memory
                correlations = correlations.astype(np.float32)
            highest = np.fmax.reduce(correlations, axis=1, initial=0)
            beyond = np.maximum(highest, -np.fmin.reduce(correlations, axis=1, initial=0))
            beyond = beyond > CORRELATION_LIMIT
        # One coefficient has no correlations; without any given, errors alone are used.
        bad |= mismatched | (given & beyond)
        usable = (given & ~bad).any()
        correlations = _blank(correlations, bad | ~present) if usable else None
    bad &= present
    flags[bad] |= QualityFlag.BAD_FLUX_ERROR
    errors = _blank(errors, bad | ~present)
    return (None if np.isnan(errors).all() else errors), correlations


def _fit(
    ragged: Ragged, expected: NDArray[np.int64], width: int
) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_]]:
    """Cut or pad to ``width``: (values, rows that have any, rows of the wrong length or with NaN).

    Numbers beyond a row's expected length count as padding if they are NaN.
    """
    padded = ragged.to_padded(n_correlations(LONGEST))
    found = padded.shape[1]
    if found < width:
        padded = np.pad(padded, ((0, 0), (0, width - found)), constant_values=np.nan)
    with np.errstate(invalid="ignore", over="ignore"):
        total = padded.sum()
    if padded.shape[1] and not np.isnan(total) and (expected == padded.shape[1]).all():
        given = np.ones(len(padded), dtype=bool)  # every row whole, as most files are
        bad = ragged.damaged.copy()
    else:
        nan = np.isnan(padded)
        given = ~nan.all(axis=1) if padded.shape[1] else np.zeros(len(padded), dtype=bool)
        # The right length and no NaN inside, if and only if just what lies beyond is NaN.
        inside = np.arange(padded.shape[1]) < expected[:, None]
        right = nan.sum(axis=1) == padded.shape[1] - expected
        right &= ~(nan & inside).any(axis=1)
        bad = ragged.damaged | (given & ~right)
    return padded[:, :width], given, bad


def _blank(values: NDArray[np.floating], rows: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Set rows to NaN; what cannot be written to is copied, where there are any."""
    if not rows.any():
        return values
    if not values.flags.writeable:
        values = values.copy()
    values[rows] = np.nan
    return values
