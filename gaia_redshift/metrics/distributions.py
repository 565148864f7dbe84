"""How honest intervals and redshift distributions are: coverage, PIT, CRPS.

A distribution is given on a redshift grid. A grid of m points for (n, m) densities means densities
at the points and straight lines between them; m + 1 edges mean densities constant within each bin.
Both are integrated exactly and normalised; outside the grid there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.metrics.points import (
    fraction_error,
    make_bins,
    mean_error_of,
    to_floats,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "bin_coverage",
    "compute_coverage",
    "compute_crps",
    "compute_crps_from_quantiles",
    "compute_pit",
    "find_quantiles",
    "summarise_crps",
    "summarise_pit",
]

Float = NDArray[np.float64]

PIT_BINS = 20
_ROWS = 2000
"""Distributions worked on at once."""


@dataclass(frozen=True, eq=False)
class _Gridded:
    """Normalised distributions: density at both ends of each interval, and what lies below it."""

    nodes: Float  # (k + 1,)
    left: Float  # (n, k)
    right: Float  # (n, k)
    below: Float  # (n, k + 1)

    @classmethod
    def build(cls, pdf: Float, grid: Float) -> _Gridded:
        points = len(grid) == pdf.shape[1]
        left, right = (pdf[:, :-1], pdf[:, 1:]) if points else (pdf, pdf)
        mass = 0.5 * (left + right) * np.diff(grid)
        total = mass.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            bad = ~(np.isfinite(pdf) & (pdf >= 0)).all(axis=1) | ~(total > 0)
            scale = np.where(bad, np.nan, 1 / total)[:, None]
        below = np.zeros((len(pdf), len(grid)))
        np.cumsum(mass * scale, axis=1, out=below[:, 1:])
        below[:, 1:] /= below[:, -1:]  # rounding
        return cls(grid, left * scale, right * scale, below)

    def cumulative(self, z: Float) -> Float:
        """Probability below z, shape (n,)."""
        cell, part, width = self._locate(z)
        rows = np.arange(len(z))
        left, right = self.left[rows, cell], self.right[rows, cell]
        inside = width * part * (left + 0.5 * part * (right - left))
        return np.clip(self.below[rows, cell] + inside, 0.0, 1.0)

    def quantiles(self, level: float) -> Float:
        """Redshift below which lies this probability, shape (n,)."""
        n, k = self.left.shape
        cell = np.clip((self.below <= level).sum(axis=1) - 1, 0, k - 1)
        rows = np.arange(n)
        width = np.diff(self.nodes)[cell]
        left, right = self.left[rows, cell], self.right[rows, cell]
        rest = np.maximum(level - self.below[rows, cell], 0) / width
        root = np.sqrt(np.maximum(left**2 + 2 * (right - left) * rest, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(rest > 0, 2 * rest / (left + root), 0.0)
        z = self.nodes[cell] + width * np.clip(part, 0, 1)
        return np.where(np.isfinite(self.below[:, -1]), z, np.nan)

    def crps(self, z: Float) -> Float:
        """Integral of (F - [x >= z])^2, shape (n,)."""
        cell, part, width = self._locate(z)
        rows = np.arange(len(z))
        above = (np.arange(self.left.shape[1]) > cell[:, None]).astype(float)
        zeros = np.zeros_like(self.left)
        integrals = self._integrate(slice(None), slice(None), zeros, zeros + 1, above)
        integrals *= np.diff(self.nodes)
        integrals[rows, cell] = 0
        first = self._integrate(rows, cell, 0 * part, part, 0.0) * width * part
        last = self._integrate(rows, cell, part, 1 - part, 1.0) * width * (1 - part)
        outside = np.maximum(self.nodes[0] - z, 0) + np.maximum(z - self.nodes[-1], 0)
        return integrals.sum(axis=1) + first + last + outside

    def _integrate(self, rows: Any, cells: Any, start: Any, length: Any, step: Any) -> Float:
        """Mean of (F - step)^2 over a part of each interval: exact with three Gauss points."""
        places, weights = np.polynomial.legendre.leggauss(3)
        left, right = self.left[rows, cells], self.right[rows, cells]
        below = self.below[:, :-1][rows, cells]
        width = np.diff(self.nodes)[cells]
        total = np.zeros(np.shape(left))
        for place, weight in zip(places, weights, strict=True):
            t = start + length * 0.5 * (1 + place)
            value = below + width * t * (left + 0.5 * t * (right - left))
            total += 0.5 * weight * (value - step) ** 2
        return total

    def _locate(self, z: Float) -> tuple[NDArray[np.intp], Float, Float]:
        inside = np.clip(z, self.nodes[0], self.nodes[-1])
        inside = np.where(np.isnan(inside), self.nodes[0], inside)
        cell = np.clip(
            np.searchsorted(self.nodes, inside, side="right") - 1, 0, len(self.nodes) - 2
        )
        width = np.diff(self.nodes)[cell]
        return cell, (inside - self.nodes[cell]) / width, width


def compute_pit(z_true: ArrayLike, pdf: ArrayLike, grid: ArrayLike) -> Float:
    """Return each distribution's probability below the true redshift (PIT).

    Parameters
    ----------
    z_true : array-like, shape (n,)
    pdf : array-like, shape (n, m)
        Densities; they need not be normalised. A row that is masked, not finite or negative
        anywhere has no distribution.
    grid : array-like, shape (m,) or (m + 1,)
        Points at which densities are given (straight lines between them), or edges of bins.

    Returns
    -------
    ndarray, shape (n,)
        Uniform from 0 to 1 where the distributions are honest; NaN where one or the other is
        missing.

    Raises
    ------
    InputError
        If shapes disagree or the grid does not rise.
    """
    return _measure(_Gridded.cumulative, z_true, pdf, grid)


def compute_crps(z_true: ArrayLike, pdf: ArrayLike, grid: ArrayLike) -> Float:
    """Return the continuous ranked probability score of each distribution.

    Parameters
    ----------
    z_true, pdf, grid
        As for `compute_pit`.

    Returns
    -------
    ndarray, shape (n,)
        In redshift; the smaller the better; of a single value it is the absolute error. NaN where
        there is none.

    Raises
    ------
    InputError
        If shapes disagree or the grid does not rise.

    Notes
    -----
    ``integral of (F(x) - [x >= z])^2 dx`` (Gneiting & Raftery 2007), exact for these densities.
    """
    return _measure(_Gridded.crps, z_true, pdf, grid)


def find_quantiles(pdf: ArrayLike, grid: ArrayLike, levels: ArrayLike) -> Float:
    """Return quantiles of distributions.

    Parameters
    ----------
    pdf, grid
        As for `compute_pit`.
    levels : array-like, shape (k,)
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (n, k)

    Raises
    ------
    InputError
        If shapes disagree or the grid does not rise.
    """
    at = np.atleast_1d(to_floats(levels))
    if not ((at >= 0) & (at <= 1)).all():
        raise InputError("levels of quantiles must lie between 0 and 1")
    _, density, nodes = _check(np.zeros(len(np.asarray(pdf))), pdf, grid)
    parts = [np.empty((0, len(at)))]
    for rows in _blocks(len(density)):
        gridded = _Gridded.build(density[rows], nodes)
        parts.append(np.stack([gridded.quantiles(float(v)) for v in at], axis=1))
    return np.concatenate(parts)


def compute_crps_from_quantiles(
    z_true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike
) -> Float:
    """Return the continuous ranked probability score of distributions known by quantiles.

    Parameters
    ----------
    z_true : array-like, shape (n,)
    quantiles : array-like, shape (n, k)
    levels : array-like, shape (k,)
        Rising, between 0 and 1.

    Returns
    -------
    ndarray, shape (n,)
        NaN where anything is missing.

    Raises
    ------
    InputError
        If shapes disagree or the levels do not rise.

    Notes
    -----
    Twice the mean pinball loss over the levels (Laio & Tamea 2007), each with the weight of the
    part of 0 to 1 that is nearest to it: good to a few per cent with ten levels; with three it
    only ranks predictions that give the same three.
    """
    true, known, at = to_floats(z_true), to_floats(quantiles), to_floats(levels)
    if at.ndim != 1 or not (np.diff(at) > 0).all() or at.min() <= 0 or at.max() >= 1:
        raise InputError("levels of quantiles must rise between 0 and 1")
    if known.shape != (len(true), len(at)):
        raise InputError(
            f"quantiles have shape {known.shape}; ({len(true)}, {len(at)}) is needed for"
            f" {len(true)} redshifts and {len(at)} levels"
        )
    weights = np.diff(np.concatenate([[0.0], 0.5 * (at[1:] + at[:-1]), [1.0]]))
    error = true[:, None] - known
    return 2 * (np.maximum(at * error, (at - 1) * error) @ weights)


def compute_coverage(
    z_true: ArrayLike, lower: ArrayLike, upper: ArrayLike, nominal: float
) -> dict[str, Any]:
    """Count how often intervals hold the true redshift.

    Parameters
    ----------
    z_true, lower, upper : array-like, shape (n,)
    nominal : float
        What the fraction should be, such as 0.68.

    Returns
    -------
    dict
        ``nominal``, ``n`` compared, ``n_masked`` with a true redshift but no interval,
        ``coverage`` and ``coverage_error`` (standard error), ``below`` and ``above`` (fractions of
        true redshifts on that side), ``width`` (mean) and ``width_error``.

    Raises
    ------
    InputError
        If shapes differ.
    """
    true, low, high = to_floats(z_true), to_floats(lower), to_floats(upper)
    if not true.shape == low.shape == high.shape:
        raise InputError(
            f"true redshifts and intervals have shapes {true.shape}, {low.shape}, {high.shape}"
        )
    known = np.isfinite(low) & np.isfinite(high)
    usable = known & np.isfinite(true)
    n = int(usable.sum())
    found = {"nominal": float(nominal), "n": n}
    found["n_masked"] = int((np.isfinite(true) & ~known).sum())
    if not n:
        names = ("coverage", "coverage_error", "below", "above", "width", "width_error")
        return found | dict.fromkeys(names, float("nan"))
    below = float((true[usable] < low[usable]).mean())
    above = float((true[usable] > high[usable]).mean())
    width = high[usable] - low[usable]
    coverage = float(((true[usable] >= low[usable]) & (true[usable] <= high[usable])).mean())
    return found | {
        "coverage": coverage,
        "coverage_error": fraction_error(coverage, n),
        "below": below,
        "above": above,
        "width": float(width.mean()),
        "width_error": mean_error_of(width),
    }


def bin_coverage(
    z_true: ArrayLike,
    intervals: dict[float, tuple[Float, Float]],
    values: ArrayLike,
    edges: ArrayLike,
) -> Table:
    """Tabulate `compute_coverage` for each bin of ``values`` (n,) and each nominal coverage.

    ``intervals``: nominal coverage to lower and upper ends, shape (n,) each; ``edges`` (b + 1,)
    must rise, else `InputError`.
    """
    from astropy.table import Table

    true = to_floats(z_true)
    where, limits = make_bins(values, edges, len(true))
    rows = []
    for nominal, (lower, upper) in intervals.items():
        for b in range(len(limits) - 1):
            inside = where == b
            found = compute_coverage(true[inside], lower[inside], upper[inside], nominal)
            rows.append({"low": limits[b], "high": limits[b + 1]} | found)
    return Table(rows=rows)


def summarise_pit(pit: ArrayLike, bins: int = PIT_BINS) -> dict[str, Any]:
    """Say how uniform PIT values are.

    Parameters
    ----------
    pit : array-like, shape (n,)
        NaN where there is none.
    bins : int

    Returns
    -------
    dict
        ``n``, ``n_masked``; ``edges`` (bins + 1) and ``density`` (bins) of the histogram, 1 where
        uniform, with the standard error ``density_error`` that uniform values would show;
        ``largest_deviation`` of the cumulative distribution from uniform (the Kolmogorov-Smirnov
        statistic) and its ``p_value``; ``mean`` (0.5) and ``variance`` (1/12).
    """
    from scipy.stats import kstest

    values = to_floats(pit)
    usable = values[np.isfinite(values)]
    n = len(usable)
    counts, edges = np.histogram(usable, bins=bins, range=(0.0, 1.0))
    found: dict[str, Any] = {
        "n": n,
        "n_masked": int(len(values) - n),
        "edges": edges.tolist(),
        "density": (counts * bins / max(n, 1)).tolist(),
        "density_error": float(np.sqrt((bins - 1) / n)) if n else float("nan"),
    }
    names = ("largest_deviation", "p_value", "mean", "variance")
    if not n:
        return found | dict.fromkeys(names, float("nan"))
    test = kstest(usable, "uniform")
    numbers = (test.statistic, test.pvalue, usable.mean(), usable.var())
    return found | {name: float(value) for name, value in zip(names, numbers, strict=True)}


def summarise_crps(crps: ArrayLike) -> dict[str, Any]:
    """Return number, mean and standard error of the mean of scores."""
    values = to_floats(crps)
    usable = values[np.isfinite(values)]
    mean = float(usable.mean()) if len(usable) else float("nan")
    return {
        "n": len(usable),
        "n_masked": int(len(values) - len(usable)),
        "crps": mean,
        "crps_error": mean_error_of(usable),
    }


def _measure(
    measure: Callable[[_Gridded, Float], Float], z_true: ArrayLike, pdf: ArrayLike, grid: ArrayLike
) -> Float:
    """Measure distributions at the true redshifts, (n,), some thousand at once."""
    true, density, nodes = _check(z_true, pdf, grid)
    parts = [
        measure(_Gridded.build(density[rows], nodes), true[rows]) for rows in _blocks(len(true))
    ]
    return np.where(np.isfinite(true), np.concatenate([np.empty(0), *parts]), np.nan)


def _check(z_true: ArrayLike, pdf: ArrayLike, grid: ArrayLike) -> tuple[Float, Float, Float]:
    true, density, nodes = to_floats(z_true), to_floats(pdf), to_floats(grid)
    if nodes.ndim != 1 or len(nodes) < 2 or not (np.diff(nodes) > 0).all():
        raise InputError("a redshift grid must be two or more rising numbers")
    if density.ndim != 2 or density.shape[1] not in (len(nodes), len(nodes) - 1):
        raise InputError(
            f"distributions have shape {density.shape}; (n, {len(nodes)}) is needed with a grid of"
            f" {len(nodes)} points, or (n, {len(nodes) - 1}) if these are edges of bins"
        )
    if true.shape != (len(density),):
        raise InputError(f"{len(density)} distributions for true redshifts of shape {true.shape}")
    return true, density, nodes


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
