"""Redshifts against the truth or by themselves, `plot_predictions`; of one source, `plot_pdf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift.clean import explain_table, find_clean
from gaia_redshift.errors import InputError
from gaia_redshift.metrics.distributions import find_quantiles
from gaia_redshift.metrics.points import compute_metrics, to_floats
from gaia_redshift.peaks import take_distributions
from gaia_redshift.plot.canvas import find_row, make_axes, place_legend

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes

__all__ = ["plot_pdf", "plot_predictions"]

CROWDED = 3000
"""Above so many galaxies their density is drawn instead of points."""


def plot_predictions(
    table: Table, truth: str | ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw predicted against true redshifts, or the distribution of the predicted ones.

    Rows that are not usable (see `gaia_redshift.select_clean`) are grey, and are not counted in the
    metrics of the title.

    Parameters
    ----------
    table : Table
        As `gaia_redshift.predict_table` returns it; without ``flags_cnn`` all rows are usable.
    truth : str or array-like of shape (n,), optional
        True redshifts, or the name of their column; without it a histogram is drawn.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
        Their title has the number of sources and, with true redshifts, their metrics.

    Raises
    ------
    InputError
        If the table has no such column or the lengths differ.
    """
    true = None if truth is None else _find_truth(table, truth)
    ax = ax or make_axes(6, 5.5)
    predicted = to_floats(table["redshift_cnn"])
    usable = np.isfinite(predicted)
    counted = f"{int(usable.sum()):,} sources"
    if "flags_cnn" in table.colnames:
        usable = find_clean(table, "usable")
        if not usable.all():
            counted = explain_table(table)
    if true is None:
        _draw_histogram(ax, predicted, usable)
        ax.set_title(counted, wrap=True, fontsize="medium")
        return ax
    known = np.isfinite(predicted) & np.isfinite(true)
    _draw_comparison(ax, predicted, true, known & usable, known & ~usable)
    title = _name_metrics(predicted[known & usable], true[known & usable])
    words = title if usable.all() else f"{counted}\n{title}"
    ax.set_title(words, wrap=True, fontsize="medium")
    return ax


def _draw_histogram(ax: Axes, predicted: Any, usable: Any) -> None:
    shown = np.isfinite(predicted)
    bins = min(60, max(10, int(np.sqrt(shown.sum()))))
    edges = np.histogram_bin_edges(predicted[shown], bins).tolist()
    parts = [(usable, "tab:blue", "usable"), (shown & ~usable, "0.75", "not usable")]
    parts = [part for part in parts if part[0].any()]
    ax.hist(
        [predicted[rows] for rows, _, _ in parts],
        edges,
        stacked=True,
        color=[colour for _, colour, _ in parts] or None,
        label=[label for _, _, label in parts] or None,
    )
    ax.set(xlabel="predicted redshift", ylabel="sources")
    if (shown & ~usable).any():
        ax.legend(frameon=False)


def _draw_comparison(ax: Axes, predicted: Any, true: Any, usable: Any, others: Any) -> None:
    both = [z[usable | others] for z in (predicted, true)]
    top = float(max([0.1, *(np.percentile(z, 99.8) for z in both if len(z))])) * 1.05
    low = float(min([0.0, *(z.min() for z in both if len(z))]))
    if others.any():
        ax.plot(true[others], predicted[others], "x", ms=3, color="0.7", label="not usable")
    if usable.sum() > CROWDED:
        drawn = ax.hexbin(
            true[usable],
            predicted[usable],
            gridsize=80,
            extent=(low, top, low, top),
            bins="log",
            mincnt=1,
        )
        ax.figure.colorbar(drawn, ax=ax, label="sources")
    else:
        true, predicted = true[usable], predicted[usable]
        ax.plot(true, predicted, ".", ms=4, alpha=0.6, color="tab:blue", label="usable")
    if others.any():
        ax.legend(loc="upper left", frameon=False)
    line = np.array([low, top])
    ax.plot(line, line, "-", color="black", lw=1)
    for sign in (-1, 1):
        ax.plot(line, line + sign * 0.15 * (1 + line), ":", color="grey", lw=1)
    ax.set(
        xlim=(low, top),
        ylim=(low, top),
        aspect="equal",
        xlabel="true redshift",
        ylabel="predicted redshift",
    )


def _find_truth(table: Table, truth: str | ArrayLike) -> Any:
    """True redshifts (n,), given or of a column, NaN where masked."""
    if isinstance(truth, str):
        if truth not in table.colnames:
            shown = ", ".join(table.colnames)
            raise InputError(f"no column '{truth}' of true redshifts; there are: {shown}")
        truth = table[truth]
    values = to_floats(truth)
    if values.shape != (len(table),):
        raise InputError(f"true redshifts have shape {values.shape}, the table {len(table)} rows")
    return values


def _name_metrics(predicted: Any, true: Any) -> str:
    if not len(predicted):
        return "none to compare"
    found = compute_metrics(predicted, true)
    return (
        f"{found['n']:,} sources, $\\sigma_{{NMAD}}$ {found['sigma_nmad']:.4f},"
        f" MAE {found['mae']:.4f}"
    )


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

    Returns
    -------
    Axes
        With the median and the interval in the legend.

    Raises
    ------
    InputError
        If there is no such column or row, no grid, or the shapes do not fit.
    """
    densities, nodes = take_distributions(pdf, grid, nodes=True)
    title = ""
    if hasattr(pdf, "colnames"):
        row = find_row(np.asarray(pdf["source_id"]), row, source_id)
        title = f"source_id {int(pdf['source_id'][row])}"
        truth = _find_truth(pdf, truth)[row] if isinstance(truth, str) else truth
    elif not -len(densities) <= row < len(densities):
        raise InputError(f"there is no row {row}: there are {len(densities)}")
    true = np.nan if truth is None or np.ma.is_masked(truth) else float(truth)
    density = densities[row]
    if not np.isfinite(density).all():
        raise InputError("the row has no distribution (masked or NaN)")
    ax = ax or make_axes(6, 4)
    _draw_density(ax, density, nodes)
    if np.isfinite(true):
        ax.axvline(true, color="black", ls="--", lw=1, label=f"true: {true:.4f}")
        left, right = ax.get_xlim()
        margin = 0.03 * (right - left)
        ax.set_xlim(min(left, true - margin), max(right, true + margin))
    ax.set(xlabel="redshift", ylabel="probability density")
    ax.set_ylim(bottom=0)
    place_legend(ax, title)
    return ax


def _draw_density(ax: Axes, density: Any, nodes: Any) -> None:
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
