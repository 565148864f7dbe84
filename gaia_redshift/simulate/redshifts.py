"""Distributions of redshifts from which galaxies are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError

__all__ = ["REDSHIFT_RANGE", "SURVEYS", "Survey", "make_quantile"]

Float = NDArray[np.float64]

REDSHIFT_RANGE = (0.0, 0.6)

# Kiraleos (2023): percentiles of the 520,393 SDSS redshifts and shares of galaxies per bin of 0.05.
_PERCENTILES = {
    1: 0.0256, 5: 0.0446, 10: 0.0596, 25: 0.0843, 50: 0.1257,
    75: 0.1811, 90: 0.2586, 95: 0.3023, 99: 0.3694,
}  # fmt: skip
_BIN_PERCENT = (6.62, 27.77, 28.99, 16.61, 8.80, 6.00, 3.55, 1.15, 0.30, 0.11, 0.06, 0.04)


def _sdss_quantile() -> Callable[[Float], Float]:
    from scipy.interpolate import PchipInterpolator

    edges = np.arange(13) * 0.05
    shares = np.concatenate([[0.0], np.cumsum(_BIN_PERCENT)]) / sum(_BIN_PERCENT)
    points = dict(zip(edges.tolist(), shares.tolist(), strict=True))
    points |= {z: p / 100.0 for p, z in _PERCENTILES.items()}
    z = np.array(sorted(points))
    cumulative = np.maximum.accumulate([points[v] for v in z])
    grid = np.linspace(0.0, 0.6, 6001)
    fine = np.clip(PchipInterpolator(z, cumulative)(grid), 0.0, 1.0)
    keep = np.concatenate([[True], np.diff(fine) > 0])
    return lambda u: np.interp(u, fine[keep], grid[keep])


def make_quantile(sample: Float) -> Callable[[Float], Float]:
    """Return the quantile function of a sample, shape (m,): uniform numbers -> like values."""
    values = np.sort(sample)
    place = (np.arange(values.size) + 0.5) / values.size
    return lambda u: np.interp(u, place, values)


@dataclass(frozen=True)
class Survey:
    """A distribution of redshifts, and what depends on it.

    Parameters
    ----------
    name : str
    quantile : callable
        Maps uniform numbers in [0, 1), shape (n,), to redshifts, shape (n,), within 0 to 0.6.
    """

    name: str
    quantile: Callable[[Float], Float]

    @classmethod
    def resolve(cls, survey: Any) -> Survey:
        """Turn a name, a callable or a sample of redshifts into a Survey.

        Raises
        ------
        InputError
            If the name is unknown or a redshift lies outside 0 to 0.6.
        """
        if isinstance(survey, Survey):
            return survey
        if isinstance(survey, str):
            if survey not in SURVEYS:
                raise InputError(f"unknown survey '{survey}': choose from {', '.join(SURVEYS)}")
            return SURVEYS[survey]()
        if callable(survey):
            return cls(name="user", quantile=survey)
        sample = np.asarray(survey, dtype=float).ravel()
        low, high = REDSHIFT_RANGE
        if sample.size == 0 or not np.all((sample >= low) & (sample <= high)):
            raise InputError(f"a survey's redshifts must lie between {low} and {high}")
        return cls(name="user", quantile=make_quantile(sample))

    def restrict(self, low: float, high: float) -> tuple[Survey, float]:
        """Return the survey's part between two redshifts, and its share of the whole.

        Parameters
        ----------
        low, high : float
            Redshifts; those of the part lie at or above ``low`` and below ``high``.

        Raises
        ------
        InputError
            If the survey has no galaxies there.
        """

        def place(z: float) -> float:  # by halving: a quantile function rises
            bottom, top = 0.0, 1.0
            for _ in range(50):
                middle = 0.5 * (bottom + top)
                below = float(self.quantile(np.array([middle]))[0]) < z
                bottom, top = (middle, top) if below else (bottom, middle)
            return top

        first, last = place(low), place(high)
        if last - first < 1e-9:
            raise InputError(f"survey {self.name} has no galaxies at z = {low:g} to {high:g}")

        def quantile(u: Float) -> Float:
            z = self.quantile(first + (last - first) * np.asarray(u))
            return np.clip(z, low, np.nextafter(high, low))

        return Survey(f"{self.name}, z {low:g}-{high:g}", quantile), last - first


def _mix_quantiles(share: float) -> Callable[[Float], Float]:
    """Quantile function of a mixture: this share of the "sdss" survey, the rest flat."""
    u = np.linspace(0.0, 1.0, 20_001)
    grid = np.linspace(*REDSHIFT_RANGE, 6001)
    sdss = _sdss_quantile()(u)
    rising = np.concatenate([[True], np.diff(sdss) > 0])
    below = np.interp(grid, sdss[rising], u[rising], left=0.0, right=1.0)
    cumulative = share * below + (1 - share) * (grid - grid[0]) / (grid[-1] - grid[0])
    return lambda v: np.interp(v, cumulative, grid)


SURVEYS: dict[str, Callable[[], Survey]] = {
    "sdss": lambda: Survey("sdss", _sdss_quantile()),
    "flat": lambda: Survey("flat", lambda u: REDSHIFT_RANGE[1] * u),
    "mixed": lambda: Survey("mixed", _mix_quantiles(0.6)),
}
"""Named redshift distributions: the dissertation's SDSS galaxies; uniform from 0 to 0.6; six parts
of the first with four of the second, to train on."""
