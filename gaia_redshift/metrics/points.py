"""Metrics of predicted against true redshifts, overall and in bins, with standard errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["METRICS", "REDSHIFT_EDGES", "bin_metrics", "compute_metrics", "make_bins"]

Float = NDArray[np.float64]

METRICS = {
    "bias": "mean of dz = (z_pred - z_true) / (1 + z_true)",
    "sigma_nmad": "1.4826 median |dz - median dz|",
    "mae": "mean |z_pred - z_true|",
    "mean_error": "mean z_pred - z_true",
    "outliers_05": "fraction with |dz| > 0.05",
    "outliers_15": "fraction with |dz| > 0.15",
}
"""Names and meanings of the metrics."""
REDSHIFT_EDGES = tuple(round(0.05 * i, 2) for i in range(13))
"""Edges of the redshift bins: 0 to 0.6 in steps of 0.05, as in Kiraleos (2023)."""
RESAMPLES = 100
"""Bootstrap samples behind the standard error of sigma_NMAD."""


def compute_metrics(
    z_pred: ArrayLike, z_true: ArrayLike, *, errors: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Compare predicted with true redshifts.

    Parameters
    ----------
    z_pred, z_true : array-like, shape (n,)
        Pairs of which either is masked or not finite cannot be compared; they are counted.
    errors : bool
        Give standard errors too, as ``<metric>_error``.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``n`` pairs compared, ``n_masked`` with a true but no predicted redshift,
        ``n_without_truth``; with ``dz = (z_pred - z_true) / (1 + z_true)``: ``bias`` = mean dz,
        ``sigma_nmad`` = ``1.4826 median |dz - median dz|`` (Ilbert et al. 2006; Brammer et al.
        2008), ``mae`` = mean ``|z_pred - z_true|`` (not divided by 1 + z, as in Kiraleos 2023),
        ``mean_error`` = mean ``z_pred - z_true``, ``outliers_05`` and ``outliers_15``, the
        fractions with ``|dz|`` > 0.05 and > 0.15. NaN where n is 0.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Standard errors: of means their scatter over the root of n; of fractions
    ``sqrt(p (1 - p) / (n + 1))`` with ``p = (k + 1/2) / (n + 1)`` (Agresti & Coull 1998 at one
    sigma), which stays above 0 where no outlier was found; of sigma_NMAD the scatter of 100
    bootstrap samples.

    Examples
    --------
    >>> compute_metrics([0.1, 0.2], [0.1, 0.2])["sigma_nmad"]
    0.0
    """
    predicted, true = to_redshifts(z_pred, z_true)
    usable = np.isfinite(predicted) & np.isfinite(true)
    counts: dict[str, Any] = {
        "n": int(usable.sum()),
        "n_masked": int((np.isfinite(true) & ~usable).sum()),
        "n_without_truth": int((~np.isfinite(true)).sum()),
    }
    predicted, true = predicted[usable], true[usable]
    names = [*METRICS, *(f"{name}_error" for name in METRICS if errors)]
    if not len(predicted):
        return {**counts, **dict.fromkeys(names, float("nan"))}
    difference = predicted - true
    dz = difference / (1 + true)
    found = {
        "bias": float(dz.mean()),
        "sigma_nmad": _sigma_nmad(dz),
        "mae": float(np.abs(difference).mean()),
        "mean_error": float(difference.mean()),
        "outliers_05": float((np.abs(dz) > 0.05).mean()),
        "outliers_15": float((np.abs(dz) > 0.15).mean()),
    }
    if errors:
        found |= {
            "bias_error": mean_error_of(dz),
            "sigma_nmad_error": _bootstrap_nmad(dz, seed),
            "mae_error": mean_error_of(np.abs(difference)),
            "mean_error_error": mean_error_of(difference),
            "outliers_05_error": fraction_error(found["outliers_05"], len(dz)),
            "outliers_15_error": fraction_error(found["outliers_15"], len(dz)),
        }
    return {**counts, **found}


def bin_metrics(
    z_pred: ArrayLike,
    z_true: ArrayLike,
    values: ArrayLike,
    edges: ArrayLike = REDSHIFT_EDGES,
    *,
    seed: int = 0,
) -> Table:
    """Compute the metrics in bins of some quantity.

    Parameters
    ----------
    z_pred, z_true : array-like, shape (n,)
    values : array-like, shape (n,)
        What the bins are of: ``z_true``, ``z_pred``, a magnitude, ...
    edges : array-like, shape (b + 1,)
        Rising; the last bin holds its upper edge.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Table
        A row for each bin: ``low``, ``high``, ``mean`` (of the values), and what
        `compute_metrics` gives, with errors. ``meta["n_outside"]`` counts the rows in no bin
        (beyond the edges, or of no value), ``meta["n_outside_compared"]`` those of them with both
        redshifts.

    Raises
    ------
    InputError
        If shapes differ or the edges do not rise.
    """
    from astropy.table import Table

    predicted, true = to_redshifts(z_pred, z_true)
    where, limits = make_bins(values, edges, len(true))
    by = to_floats(values)
    rows = []
    for b in range(len(limits) - 1):
        inside = where == b
        row = {"low": limits[b], "high": limits[b + 1]}
        row["mean"] = float(by[inside].mean()) if inside.any() else float("nan")
        rows.append(row | compute_metrics(predicted[inside], true[inside], errors=True, seed=seed))
    table = Table(rows=rows)
    outside = where < 0
    both = np.isfinite(predicted) & np.isfinite(true)
    table.meta["n_outside"] = int(outside.sum())
    table.meta["n_outside_compared"] = int((outside & both).sum())
    for name, meaning in METRICS.items():
        table[name].description = meaning
        table[f"{name}_error"].description = f"standard error of {name}"
    table["n"].description = "galaxies compared"
    table["n_masked"].description = "galaxies without a prediction"
    return table


def make_bins(values: ArrayLike, edges: ArrayLike, n: int) -> tuple[NDArray[np.intp], Float]:
    """Return the bin of each of n values, shape (n,), -1 where in none, and the edges (b + 1,).

    Raises `InputError` if there are not n values or the edges do not rise.
    """
    limits = to_floats(edges)
    if limits.ndim != 1 or len(limits) < 2 or not (np.diff(limits) > 0).all():
        raise InputError("edges of bins must be two or more rising numbers")
    by = to_floats(values)
    if by.shape != (n,):
        raise InputError(f"the values to bin by have shape {by.shape}, the redshifts ({n},)")
    where = find_bins(by, limits)
    where[~(np.isfinite(by) & (by >= limits[0]) & (by <= limits[-1]))] = -1
    return where, limits


def find_bins(values: ArrayLike, edges: Float) -> NDArray[np.intp]:
    """Return the bin of each value, shape (n,); those beyond the edges are in the first or last."""
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def to_floats(
    values: ArrayLike, complaint: str = "redshifts and what they are binned by must be numbers"
) -> Float:
    """Return an array of floats, NaN where it was masked; with a complaint if it holds others."""
    try:
        filled = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
    except (TypeError, ValueError):
        raise InputError(complaint) from None
    return np.asarray(filled, dtype=np.float64)


def to_redshifts(z_pred: ArrayLike, z_true: ArrayLike) -> tuple[Float, Float]:
    """Return both as arrays of floats, NaN where masked, and of one shape."""
    predicted, true = to_floats(z_pred), to_floats(z_true)
    if predicted.shape != true.shape:
        raise InputError(
            f"predicted and true redshifts have shapes {predicted.shape} and {true.shape}"
        )
    return predicted, true


def mean_error_of(values: Float) -> float:
    """Return the standard error of a mean; NaN for less than two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def fraction_error(fraction: float, n: int) -> float:
    """Return the standard error of a fraction of n; never 0."""
    if not n:
        return float("nan")
    p = (fraction * n + 0.5) / (n + 1)
    return float(np.sqrt(p * (1 - p) / (n + 1)))


def _sigma_nmad(dz: Float) -> float:
    return float(1.4826 * np.median(np.abs(dz - np.median(dz))))


def _bootstrap_nmad(dz: Float, seed: int) -> float:
    if len(dz) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    drawn = [_sigma_nmad(dz[rng.integers(len(dz), size=len(dz))]) for _ in range(RESAMPLES)]
    return float(np.std(drawn, ddof=1))
