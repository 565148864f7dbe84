"""How well a trained network does on its test part, as the manifest and the model card tell."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.metrics.distributions import compute_crps, compute_pit
from gaia_redshift.model.distribution import RedshiftBins, compute_quantiles
from gaia_redshift.train.objectives import find_bins

__all__ = ["draw_rows", "measure_bins", "measure_distributions"]

Float = NDArray[np.float64]

_BIN_WIDTH = 0.05
_LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
_PARTS = 6
"""Parts of brightness with the same number of galaxies."""
_LARGEST_RATIO = 3.0
"""Of a prior to the training part's density, which in bins with few galaxies is mostly noise."""
_FEWEST = 100
"""Bins with fewer galaxies say too little."""


def draw_rows(
    true: Float, bins: RedshiftBins, prior: Float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw from galaxies with the training part's redshifts some with those of a prior (m,).

    Acceptance with a probability that is proportional to prior / density, the latter cut at 3;
    ``true`` are redshifts (n,).
    """
    ratio = np.minimum(prior / bins.density, _LARGEST_RATIO)
    rows = rng.uniform(size=len(true)) * ratio.max() < ratio[find_bins(true, bins.edges)]
    return np.asarray(rows)


def measure_distributions(
    probability: NDArray[np.floating], bins: RedshiftBins, true: Float, level: Float
) -> dict[str, Any]:
    """Measure how honest distributions (n, m) are, by true redshifts and mean flux, (n,) each.

    Returns ``coverage_68`` and ``coverage_95``; ``crps``; ``pit``, the histogram in tenths, 1 where
    flat; ``by_prediction`` and ``by_brightness``, lists of rows with ``low``, ``high``, ``n``,
    ``mean_error``, ``mae`` and both coverages.
    """
    q = compute_quantiles(probability, bins.edges, _LEVELS)
    density = probability / np.diff(bins.edges)
    pit = compute_pit(true, density, bins.edges)

    def summarise(rows: NDArray[np.bool_]) -> dict[str, float]:
        z, t = q[:, rows], true[rows]
        return {
            "mean_error": float((z[2] - t).mean()),
            "mae": float(np.abs(z[2] - t).mean()),
            "coverage_68": float(((t >= z[1]) & (t <= z[3])).mean()),
            "coverage_95": float(((t >= z[0]) & (t <= z[4])).mean()),
        }

    def tabulate(values: Float, edges: Float) -> list[dict[str, float]]:
        index = find_bins(values, edges)
        return [
            {
                "low": round(float(edges[i]), 6),
                "high": round(float(edges[i + 1]), 6),
                "n": int((index == i).sum()),
                **summarise(index == i),
            }
            for i in range(len(edges) - 1)
            if (index == i).sum() >= _FEWEST
        ]

    everything = summarise(np.ones(len(true), dtype=bool))
    return {
        "coverage_68": everything["coverage_68"],
        "coverage_95": everything["coverage_95"],
        "crps": float(np.mean(compute_crps(true, density, bins.edges))),
        "pit": (np.histogram(pit, 10, (0.0, 1.0))[0] * 10 / len(true)).tolist(),
        "by_prediction": tabulate(q[2], _divide(bins.edges[0], bins.edges[-1])),
        "by_brightness": tabulate(level, np.quantile(level, np.linspace(0, 1, _PARTS + 1))),
    }


def measure_bins(
    predicted: Float, true: Float, limits: tuple[float, float]
) -> list[dict[str, Any]]:
    """Mean and standard deviation of predicted - true, in bins of 0.05 of true redshift.

    The last bin includes its upper end; bins without galaxies are left out.
    """
    edges = _divide(*limits)
    index = find_bins(true, edges)
    bins = []
    for i in range(len(edges) - 1):
        error = (predicted - true)[index == i]
        if len(error):
            bins.append(
                {
                    "low": round(float(edges[i]), 6),
                    "high": round(float(edges[i + 1]), 6),
                    "n": len(error),
                    "mean_error": float(error.mean()),
                    "scatter": float(error.std()),
                }
            )
    return bins


def _divide(low: float, high: float) -> Float:
    return np.linspace(low, high, max(1, round((high - low) / _BIN_WIDTH)) + 1)
