"""How good predicted redshifts are, against known ones.

`gaia_redshift.metrics` (numbers) -> evaluation (a column of a table against the truth) ->
comparison (several columns on common rows) -> figures, report (files and a page).
"""

from __future__ import annotations

from gaia_redshift.evaluate.comparison import Comparison, compare_predictions
from gaia_redshift.evaluate.evaluation import Evaluation, evaluate_table
from gaia_redshift.evaluate.report import write_report
from gaia_redshift.metrics.distributions import (
    compute_coverage,
    compute_crps,
    compute_crps_from_quantiles,
    compute_pit,
    find_quantiles,
)
from gaia_redshift.metrics.points import bin_metrics, compute_metrics

__all__ = [
    "Comparison",
    "Evaluation",
    "bin_metrics",
    "compare_predictions",
    "compute_coverage",
    "compute_crps",
    "compute_crps_from_quantiles",
    "compute_metrics",
    "compute_pit",
    "evaluate_table",
    "find_quantiles",
    "write_report",
]
