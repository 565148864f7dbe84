"""The distribution of a source's redshift: `plot_pdf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift.errors import InputError
from gaia_redshift.plot.canvas import find_row, make_axes, place_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pdf"]

GRID_KEY = "redshift_grid"
"""Where the column's ``meta`` (or the table's) says at which redshifts its values are."""


def plot_pdf(
    pdf: Any,
    grid: ArrayLike | None = None,
    *,
    row: int = 0,
    source_id: int | None = None,
    truth: float | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of a source's redshift, with its median and 68 % interval.

    Parameters
    ----------
    pdf : Table, or array-like of shape (m,) or (n, m)
        Predictions with a column ``redshift_cnn_pdf``, or distributions themselves.
    grid : array-like, shape (m,) or (m + 1,), optional
        The redshifts of the values, which straight lines connect, or the edges of bins. Tables
        of predictions hold it.
    row : int
        Which of several sources.
    source_id : int, optional
        Which one, by its id; for tables.
    truth : float or str, optional
        The true redshift, or the table's column of such.
    ax : matplotlib Axes, optional
        Where to draw; by default on a new figure of pyplot (``ax.figure``).

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If there is no such column or row, no grid, or the shapes do not fit.
    """
    title, source = "", None
    if hasattr(pdf, "colnames"):
        source = pdf
        if "redshift_cnn_pdf" not in pdf.colnames:
            raise InputError(
                "the table has no column 'redshift_cnn_pdf': predict with pdf=True, with a model"
                " that gives distributions"
            )
        if grid is None:
            noted = (pdf["redshift_cnn_pdf"].info.meta or {}, pdf.meta)
            grid = next((meta[GRID_KEY] for meta in noted if GRID_KEY in meta), None)
        row = find_row(np.asarray(pdf["source_id"]), row, source_id)
        pdf = pdf["redshift_cnn_pdf"]
    values: Any = np.atleast_2d(np.ma.filled(np.ma.asarray(pdf, dtype=float), np.nan))
    if not -len(values) <= row < len(values):
        raise InputError(f"there is no row {row}: there are {len(values)}")
    density = values[row]
    if grid is None:
        raise InputError("give the redshifts at which the distribution is given (grid=...)")
    nodes = np.asarray(grid, dtype=float)
    if nodes.ndim != 1 or len(nodes) - len(density) not in (0, 1):
        raise InputError(
            f"a distribution of {len(density)} values needs as many redshifts, or one more edges of"
            f" bins, not shape {nodes.shape}"
        )
    if source is not None:
        title = f"source_id {int(source['source_id'][row])}"
        if isinstance(truth, str):
            if truth not in source.colnames:
                raise InputError(f"no column '{truth}'; there are: {', '.join(source.colnames)}")
            truth = source[truth][row]
    ax = ax or make_axes(6, 4)
    if not np.isfinite(density).all():
        raise InputError("the row has no distribution (masked or NaN)")
    _draw(ax, density, nodes)
    if truth is not None and not np.ma.is_masked(truth) and np.isfinite(float(truth)):
        ax.axvline(float(truth), color="black", ls="--", lw=1, label=f"true: {float(truth):.4f}")
        left, right = ax.get_xlim()
        margin = 0.03 * (right - left)
        ax.set_xlim(min(left, float(truth) - margin), max(right, float(truth) + margin))
    ax.set(xlabel="redshift", ylabel="probability density")
    ax.set_ylim(bottom=0)
    place_legend(ax, title)
    return ax


def _draw(ax: Axes, density: Any, nodes: Any) -> None:
    from gaia_redshift.metrics.distributions import find_quantiles

    low, middle, high = find_quantiles(density[None, :], nodes, [0.16, 0.5, 0.84])[0]
    if len(nodes) == len(density):
        x, y = nodes, density
        ax.plot(x, y, "-", color="tab:blue", lw=1.5)
    else:
        x, y = np.repeat(nodes, 2)[1:-1], np.repeat(density, 2)
        ax.plot(x, y, "-", color="tab:blue", lw=1.2)
    fine = np.unique(np.concatenate([x, np.linspace(low, high, 50)]))
    inside = (fine >= low) & (fine <= high)
    ax.fill_between(
        fine[inside],
        np.interp(fine[inside], x, y),
        color="tab:blue",
        alpha=0.25,
        lw=0,
        label=f"68 %: {low:.4f} to {high:.4f}",
    )
    ax.axvline(middle, color="tab:blue", lw=1, label=f"median: {middle:.4f}")
    # The part of the range that holds all but nothing of the probability.
    first, last = find_quantiles(density[None, :], nodes, [0.0005, 0.9995])[0]
    margin = 0.3 * (last - first) + 1e-4
    ax.set_xlim(max(nodes[0], first - margin), min(nodes[-1], last + margin))
