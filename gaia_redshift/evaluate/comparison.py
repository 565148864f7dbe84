"""Several columns of predictions side by side, on the rows that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.evaluate.evaluation import Evaluation, evaluate_table, take_redshifts, to_plain
from gaia_redshift.metrics.points import METRICS, compute_metrics

__all__ = ["UGC_WEAK_RANGES", "Comparison", "compare_predictions", "in_weak_range"]

Float = NDArray[np.float64]

UGC_WEAK_RANGES = (
    (-np.inf, 0.02, "poor below 0.02"),
    (0.070, 0.071, "pile-up at 0.070-0.071, true redshifts probably below 0.04"),
    (0.28, 0.30, "poor at 0.28-0.30"),
    (0.58, np.inf, "poor above 0.58"),
)
"""Ranges of ``redshift_ugc`` that are reported to be weak: low, high, in words.

They are told of here as they were passed on to us; check them against the Gaia DR3 documentation
before you rest a cut on them.
"""
RESAMPLES = 200
_RATIOS = ("mae", "sigma_nmad")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Predictions side by side.

    Parameters
    ----------
    evaluations : dict of Evaluation
        For each column on the common rows: those with a true redshift and all the predictions.
    summary : Table
        A row for each column: the metrics on the common rows; ``n_own`` and ``mae_own`` on all the
        rows that it has; ``mae_ratio`` and ``sigma_nmad_ratio``, to the first column, with
        standard errors from bootstrap samples of the galaxies, the same for both.
    weak_ranges : Table or None
        The columns on common rows where ``redshift_ugc`` lies in one of `UGC_WEAK_RANGES`, and
        outside all of them.
    n_rows, n_common : int
    labels : dict
        Column to the name shown for it.
    """

    evaluations: dict[str, Evaluation]
    summary: Table
    weak_ranges: Table | None
    n_rows: int
    n_common: int
    labels: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain Python objects that JSON can hold; None where NaN."""

        def rows(table: Table | None) -> Any:
            if table is None:
                return None
            return to_plain([dict(zip(table.colnames, row, strict=True)) for row in table])

        return {
            "n_rows": self.n_rows,
            "n_common": self.n_common,
            "summary": rows(self.summary),
            "weak_ranges": rows(self.weak_ranges),
            "evaluations": {name: e.to_dict() for name, e in self.evaluations.items()},
        }


def compare_predictions(
    table: Table,
    predictions: Sequence[str],
    truth: str = "redshift_true",
    *,
    labels: dict[str, str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Comparison:
    """Evaluate several columns of predictions on their common rows.

    Parameters
    ----------
    table : Table
    predictions : sequence of str
        Columns; ratios are to the first.
    truth : str
        Column of true redshifts.
    labels : dict, optional
        Names to show for columns.
    seed : int
        Of the bootstrap.
    **options
        Of `gaia_redshift.evaluate.evaluation.evaluate_table`: ``brightness``, ``edges``,
        ``brightness_edges``.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If a column is missing or no row has them all.
    """
    names = list(dict.fromkeys(predictions))
    if len(names) < 2:
        raise InputError("a comparison needs two columns of predictions or more")
    true = take_redshifts(table, truth)
    columns = {name: take_redshifts(table, name) for name in names}
    common = np.isfinite(true)
    for values in columns.values():
        common &= np.isfinite(values)
    if not common.any():
        raise InputError(f"no row has {truth} and all of {', '.join(names)}")
    part = table[common]
    evaluations = {name: evaluate_table(part, truth, name, seed=seed, **options) for name in names}
    ratios = _bootstrap_ratios(columns, true, common, names, seed)
    rows = []
    for name in names:
        own = compute_metrics(columns[name], true)
        metrics = {k: v for k, v in evaluations[name].metrics.items() if k.startswith(_SHOWN)}
        rows.append(
            {
                "prediction": (labels or {}).get(name, name),
                "n": evaluations[name].metrics["n"],
                **metrics,
                **ratios[name],
                "n_own": own["n"],
                "n_own_masked": own["n_masked"],
                "mae_own": own["mae"],
            }
        )
    return Comparison(
        evaluations=evaluations,
        summary=Table(rows=rows),
        weak_ranges=_tabulate_weak(columns, true, common, labels or {}),
        n_rows=len(table),
        n_common=int(common.sum()),
        labels=dict(labels or {}),
    )


_SHOWN = tuple(METRICS)


def in_weak_range(redshift_ugc: Float) -> NDArray[np.intp]:
    """Return the number of the weak range that each UGC redshift lies in, -1 in none."""
    found = np.full(len(redshift_ugc), -1)
    for number, (low, high, _) in enumerate(UGC_WEAK_RANGES):
        found[(redshift_ugc >= low) & (redshift_ugc <= high)] = number
    return found


def _bootstrap_ratios(
    columns: dict[str, Float], true: Float, common: NDArray[np.bool_], names: list[str], seed: int
) -> dict[str, dict[str, float]]:
    z = true[common]
    rng = np.random.default_rng(seed)
    errors = np.stack([columns[name][common] - z for name in names])

    def measure(rows: Any) -> Float:
        some = errors[:, rows]
        dz = some / (1 + z[rows])
        centred = np.abs(dz - np.median(dz, axis=1, keepdims=True))
        return np.stack([np.abs(some).mean(axis=1), np.median(centred, axis=1)])

    def divide(found: Float) -> Float:
        with np.errstate(invalid="ignore", divide="ignore"):
            return found / found[:, :1]

    value = divide(measure(slice(None)))
    drawn = np.stack([divide(measure(rng.integers(len(z), size=len(z)))) for _ in range(RESAMPLES)])
    with np.errstate(invalid="ignore"):
        scatter = drawn.std(axis=0, ddof=1)
    return {
        name: {
            key: float(number)
            for k, metric in enumerate(_RATIOS)
            for key, number in (
                (f"{metric}_ratio", value[k, i]),
                (f"{metric}_ratio_error", scatter[k, i]),
            )
        }
        for i, name in enumerate(names)
    }


def _tabulate_weak(
    columns: dict[str, Float], true: Float, common: NDArray[np.bool_], labels: dict[str, str]
) -> Table | None:
    if "redshift_ugc" not in columns:
        return None
    where = in_weak_range(columns["redshift_ugc"])
    ranges = [("outside the weak ranges", where < 0)]
    ranges += [(words, where == i) for i, (_, _, words) in enumerate(UGC_WEAK_RANGES)]
    rows = []
    for words, inside in ranges:
        for name, values in columns.items():
            chosen = inside & common
            found = compute_metrics(values[chosen], true[chosen], errors=True)
            rows.append(
                {
                    "redshift_ugc": words,
                    "prediction": labels.get(name, name),
                    "n": found["n"],
                    **{key: found[key] for key in found if key.startswith(_SHOWN)},
                }
            )
    return Table(rows=rows)
