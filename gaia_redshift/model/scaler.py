"""How fluxes are prepared for a network: min-max scaling, fitted on the training part alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError

__all__ = ["MinMaxScaler", "parse_scaler"]


@dataclass(frozen=True, eq=False)
class MinMaxScaler:
    """Scale each flux column to 0..1 between its extremes in the training part.

    Parameters
    ----------
    minimum, maximum : ndarray, shape (186,), e-/s
        Per column. A column without spread is only shifted.
    """

    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]

    @classmethod
    def fit(cls, flux: NDArray[np.floating]) -> MinMaxScaler:
        """Take the extremes of the columns of ``flux``, shape (n, 186), e-/s."""
        return cls(np.min(flux, axis=0).astype(np.float64), np.max(flux, axis=0).astype(np.float64))

    def transform(self, flux: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale fluxes, shape (n, 186), e-/s; worked out in float64, returned as float32."""
        spread = self.maximum - self.minimum
        scaled = (flux - self.minimum) / np.where(spread > 0, spread, 1.0)
        limit = float(np.finfo(np.float32).max)
        return np.clip(scaled, -limit, limit).astype(np.float32)

    def to_json(self) -> bytes:
        """Write the extremes with every digit of their float64."""
        content = {
            "kind": "minmax",
            "minimum": [float(v) for v in self.minimum],
            "maximum": [float(v) for v in self.maximum],
        }
        return json.dumps(content, indent=1).encode()


def parse_scaler(data: bytes, n_columns: int, name: str) -> MinMaxScaler:
    """Read what `MinMaxScaler.to_json` wrote; ``name`` is for the messages.

    Raises
    ------
    ModelError
        If the content is not a scaler for ``n_columns`` columns.
    """
    try:
        content: Any = json.loads(data)
        kind = content["kind"]
        minimum, maximum = (
            np.asarray(content[key], dtype=np.float64) for key in ("minimum", "maximum")
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelError(f"{name}: not a scaler file (JSON with kind, minimum, maximum)") from None
    if kind != "minmax":
        raise ModelError(f"{name}: unknown kind of scaler {kind!r}; update gaia_redshift")
    for values in (minimum, maximum):
        if values.shape != (n_columns,) or not np.all(np.isfinite(values)):
            raise ModelError(f"{name}: a scaler needs {n_columns} finite minima and maxima")
    if not np.all(minimum <= maximum):
        raise ModelError(f"{name}: a minimum lies above its maximum")
    return MinMaxScaler(minimum, maximum)
