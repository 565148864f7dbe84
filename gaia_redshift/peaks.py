"""The peaks of redshift distributions and the odds of each: `find_peaks`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError

__all__ = ["find_peaks", "take_distributions"]

Float = NDArray[np.float64]

PDF = "redshift_cnn_pdf"
GRID_KEY = "redshift_grid"
"""Where the column's ``meta`` (or the table's) says at which redshifts its values are."""
_VALLEY = 0.5
"""Two peaks are two where the density between them falls below this part of the lower one."""
_SMALLEST = 0.005
"""Peaks of less probability are left to their neighbours."""


def find_peaks(pdf: Any, edges: ArrayLike | None = None, *, n: int = 2) -> tuple[Float, Float]:
    """Find the most probable peaks of each redshift distribution.

    Parameters
    ----------
    pdf : Table of k rows, or array-like of shape (k, m)
        Predictions with a column ``redshift_cnn_pdf``, or densities themselves.
    edges : array-like, shape (m + 1,), optional
        Edges of the bins of redshift; tables of predictions hold them.
    n : int
        How many peaks.

    Returns
    -------
    redshift : ndarray, shape (k, n)
        Where the peaks are highest (within the bin, by a parabola), the most probable first; NaN
        where there is none.
    odds : ndarray, shape (k, n)
        The probability of each: all between the valleys on its two sides.

    Raises
    ------
    InputError
        If there are no distributions, or shapes do not fit.

    Notes
    -----
    Two peaks count as two where the density between them falls to half of the lower one. Odds of
    all peaks add to 1; the flag ``multiple_peaks`` asks for deeper valleys,
    and for peaks 0.05 (1 + z) apart.

    Examples
    --------
    >>> import numpy as np
    >>> from gaia_redshift.peaks import find_peaks
    >>> redshift, odds = find_peaks([[0, 6, 0, 0, 4, 0]], np.linspace(0, 0.6, 7))
    >>> redshift.round(2).tolist(), odds.round(2).tolist()
    ([[0.15, 0.45]], [[0.6, 0.4]])
    """
    density, at = take_distributions(pdf, edges)
    redshift, odds = np.full((2, len(density), n), np.nan)
    widths = np.diff(at)
    for row in np.flatnonzero(np.isfinite(density).all(axis=1) & (density > 0).any(axis=1)):
        found, share = _find_in_one(density[row], at, widths)
        redshift[row, : len(found)] = found[:n]
        odds[row, : len(share)] = share[:n]
    return redshift, odds


def _find_in_one(density: Float, edges: Float, widths: Float) -> tuple[Float, Float]:
    """Peaks of one distribution, shape (j,), and their probabilities, largest first."""
    padded = np.concatenate([[0.0], density, [0.0]])
    tops = np.flatnonzero((density > padded[:-2]) & (density >= padded[2:]))
    mass = density * widths / np.sum(density * widths)
    while True:
        between = pairwise(tops)
        valleys = [int(low + np.argmin(density[low:high])) for low, high in between]
        odds = np.add.reduceat(mass, [0, *valleys])
        if len(tops) == 1:
            break
        depth = density[valleys] / np.minimum(density[tops[:-1]], density[tops[1:]])
        shallow = int(depth.argmax())
        if depth[shallow] > _VALLEY:
            lower = shallow + int(density[tops[shallow + 1]] < density[tops[shallow]])
        elif odds.min() < _SMALLEST:
            lower = int(odds.argmin())
        else:
            break
        tops = np.delete(tops, lower)
    order = np.argsort(-odds, kind="stable")
    return _place_tops(density, edges, tops)[order], odds[order]


def _place_tops(density: Float, edges: Float, tops: NDArray[np.intp]) -> Float:
    """Where a parabola through each highest bin and its neighbours is highest."""
    last = len(density) - 1
    left, right = density[np.maximum(tops - 1, 0)], density[np.minimum(tops + 1, last)]
    bend = left - 2 * density[tops] + right
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = np.where((bend < 0) & (tops > 0) & (tops < last), 0.5 * (left - right) / bend, 0.0)
    middle, width = 0.5 * (edges[tops] + edges[tops + 1]), edges[tops + 1] - edges[tops]
    return np.asarray(middle + np.clip(shift, -0.5, 0.5) * width)


def take_distributions(
    pdf: Any, edges: ArrayLike | None = None, *, nodes: bool = False
) -> tuple[Float, Float]:
    """Return densities, shape (k, m), NaN where masked, and the edges of their bins, (m + 1,).

    With ``nodes`` m redshifts may be given instead. `InputError` if there are none or do not fit.
    """
    if hasattr(pdf, "colnames"):
        if PDF not in pdf.colnames:
            raise InputError(
                f"the table has no column '{PDF}': predict with pdf=True, with a model that gives"
                " distributions"
            )
        if edges is None:
            noted = (pdf[PDF].info.meta or {}, pdf.meta)
            edges = next((meta[GRID_KEY] for meta in noted if GRID_KEY in meta), None)
        pdf = pdf[PDF]
    density = np.atleast_2d(np.ma.filled(np.ma.asarray(pdf, dtype=np.float64), np.nan))
    if density.ndim != 2:
        raise InputError(f"distributions must have shape (n, m), not {density.shape}")
    if edges is None:
        raise InputError(
            "the input does not say which bins of redshift its distributions have (its meta holds"
            f" no '{GRID_KEY}'): give their edges (grid=..., edges=...)"
        )
    at, m = np.asarray(edges, dtype=np.float64), density.shape[1]
    if at.shape not in ((m + 1,), (m,) if nodes else ()) or not np.all(np.diff(at) > 0):
        raise InputError(
            f"distributions of {m} bins need {m + 1} rising edges of redshift"
            f"{', or as many redshifts' if nodes else ''}, not an array of shape {at.shape}"
        )
    return density, at
