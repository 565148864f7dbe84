"""Predicted redshifts against true ones, or their distribution: `plot_predictions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.plot.canvas import make_axes

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes

__all__ = ["plot_predictions"]

CROWDED = 3000
"""Above so many galaxies their density is drawn instead of points."""


@preserve_settings()
def plot_predictions(
    table: Table, truth: str | ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw predicted against true redshifts, or the distribution of the predicted ones.

    Parameters
    ----------
    table : Table
        As `gaia_redshift.predict_table` returns it.
    truth : str or array-like of shape (n,), optional
        True redshifts, or the name of their column; without it a histogram is drawn.
    ax : matplotlib Axes, optional
        Where to draw; by default on a figure of its own (``ax.figure``), outside pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If the table has no such column or the lengths differ.
    """
    ax = ax or make_axes(6, 5.5)
    predicted: Any = np.ma.filled(np.ma.asarray(table["redshift_cnn"], dtype=float), np.nan)
    if truth is None:
        shown = predicted[np.isfinite(predicted)]
        ax.hist(shown, bins=min(60, max(10, int(np.sqrt(len(shown))))), color="tab:blue")
        ax.set(xlabel="predicted redshift", ylabel="sources", title=f"{len(shown):,} sources")
        return ax
    true = _find_truth(table, truth)
    usable = np.isfinite(predicted) & np.isfinite(true)
    predicted, true = predicted[usable], true[usable]
    top = float(max([0.1, *(np.percentile(z, 99.8) for z in (predicted, true) if len(z))])) * 1.05
    low = float(min([0.0, *(z.min() for z in (predicted, true) if len(z))]))
    if len(true) > CROWDED:
        drawn = ax.hexbin(
            true, predicted, gridsize=80, extent=(low, top, low, top), bins="log", mincnt=1
        )
        ax.figure.colorbar(drawn, ax=ax, label="sources")
    else:
        ax.plot(true, predicted, ".", ms=4, alpha=0.6, color="tab:blue")
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
        title=_title(predicted, true),
    )
    return ax


def _find_truth(table: Table, truth: str | ArrayLike) -> Any:
    if isinstance(truth, str):
        if truth not in table.colnames:
            raise InputError(
                f"no column '{truth}' of true redshifts; there are: {', '.join(table.colnames)}"
            )
        truth = table[truth]
    values: Any = np.ma.filled(np.ma.asarray(truth, dtype=float), np.nan)
    if values.shape != (len(table),):
        raise InputError(f"true redshifts have shape {values.shape}, the table {len(table)} rows")
    return values


def _title(predicted: Any, true: Any) -> str:
    from gaia_redshift.evaluate.metrics import compute_metrics

    found = compute_metrics(predicted, true)
    return (
        f"{found['n']:,} sources, $\\sigma_{{NMAD}}$ {found['sigma_nmad']:.4f},"
        f" MAE {found['mae']:.4f}"
    )
