"""How good predicted redshifts are, against known ones."""

from __future__ import annotations

from gaia_redshift.evaluate.metrics import compute_metrics

__all__ = ["compute_metrics"]
