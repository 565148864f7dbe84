"""How good predicted redshifts are, against known ones.

metrics and distributions (numbers) -> evaluation (a column of a table against the truth) ->
comparison (several columns on common rows) -> figures, report (files and a page).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia_redshift.evaluate.comparison import Comparison, compare_predictions
    from gaia_redshift.evaluate.distributions import (
        compute_coverage,
        compute_crps,
        compute_crps_from_quantiles,
        compute_pit,
        find_quantiles,
    )
    from gaia_redshift.evaluate.evaluation import Evaluation, evaluate_table
    from gaia_redshift.evaluate.metrics import bin_metrics, compute_metrics
    from gaia_redshift.evaluate.report import write_report

_HOMES = {
    "Comparison": "comparison",
    "Evaluation": "evaluation",
    "bin_metrics": "metrics",
    "compare_predictions": "comparison",
    "compute_coverage": "distributions",
    "compute_crps": "distributions",
    "compute_crps_from_quantiles": "distributions",
    "compute_metrics": "metrics",
    "compute_pit": "distributions",
    "evaluate_table": "evaluation",
    "find_quantiles": "distributions",
    "write_report": "report",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaia_redshift.evaluate' has no attribute '{name}'")
    return getattr(importlib.import_module(f"gaia_redshift.evaluate.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
