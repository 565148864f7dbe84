"""Figures of evaluations. Each takes matplotlib axes, or makes its own, and returns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.evaluate.comparison import UGC_WEAK_RANGES
from gaia_redshift.evaluate.evaluation import Evaluation
from gaia_redshift.plot.canvas import draw_diagonal, draw_pairs, make_axes, place_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_bias", "plot_coverage", "plot_density", "plot_pit", "plot_scatter"]

FEWEST = 20
"""Bins with fewer galaxies are drawn hollow: their numbers say little."""
Evaluations = Evaluation | Mapping[str, Evaluation]


def plot_density(
    evaluation: Evaluation, ax: Axes | None = None, *, label: str | None = None
) -> Axes:
    """Draw predicted against true redshifts, with median and 68 % of the predicted per bin.

    Parameters
    ----------
    evaluation : Evaluation
    ax : matplotlib Axes, optional
        Where to draw; by default on a new figure of pyplot.
    label : str, optional
        Name of the prediction.

    Returns
    -------
    Axes
    """
    ax = ax or make_axes(6, 5.5)
    usable = np.isfinite(evaluation.z_true) & np.isfinite(evaluation.z_pred)
    true, predicted = evaluation.z_true[usable], evaluation.z_pred[usable]
    top = 1.05 * float(max(0.1, *(np.percentile(z, 99.8) for z in (true, predicted))))
    low = float(min(0.0, np.percentile(predicted, 0.2)))
    draw_pairs(ax, true, predicted, (low, top), unit="galaxies", ms=3, alpha=0.5)
    by_true = evaluation.tables["by_true"]
    for row in by_true[by_true["n"] >= FEWEST]:
        inside = (true >= row["low"]) & (true < row["high"])
        if inside.any():
            below, middle, above = np.percentile(predicted[inside], [16, 50, 84])
            ax.errorbar(
                row["mean"],
                middle,
                yerr=[[middle - below], [above - middle]],
                fmt="o",
                ms=4,
                color="tab:red",
                capsize=2,
            )
    draw_diagonal(ax, (low, top), 0.05)
    if evaluation.prediction == "redshift_ugc":
        _mark_weak(ax, low, top, vertical=False)
    m = evaluation.metrics
    ax.set(
        xlabel="true redshift" + _note(evaluation),
        ylabel=label or evaluation.prediction,
        title=f"{m['n']:,} galaxies, $\\sigma_{{NMAD}}$ {m['sigma_nmad']:.4f}, MAE {m['mae']:.4f}",
    )
    return ax


def plot_bias(
    evaluations: Evaluations,
    against: str = "predicted",
    ax: Axes | None = None,
    *,
    mark_weak: bool = False,
) -> Axes:
    """Draw the mean of dz = (z_pred - z_true) / (1 + z_true) per bin.

    Parameters
    ----------
    evaluations : Evaluation, or mapping of label to Evaluation
    against : {"predicted", "true", "brightness"}
        What the bins are of. Against the true redshift every estimator shows regression towards
        the mean; against the predicted one an honest one shows none.
    ax : matplotlib Axes, optional
    mark_weak : bool
        Shade the ranges of ``redshift_ugc`` that are reported weak.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If ``against`` is unknown or there is nothing to draw against.
    """
    return _plot_per_bin(evaluations, against, ax, "bias", "mean dz", mark_weak=mark_weak)


def plot_scatter(
    evaluations: Evaluations,
    against: str = "predicted",
    ax: Axes | None = None,
    *,
    mark_weak: bool = False,
) -> Axes:
    """Draw sigma_NMAD per bin; arguments as for `plot_bias`."""
    return _plot_per_bin(
        evaluations, against, ax, "sigma_nmad", "$\\sigma_{NMAD}$", mark_weak=mark_weak
    )


def plot_pit(evaluation: Evaluation, ax: Axes | None = None) -> Axes:
    """Draw the histogram of PIT values, with the scatter that honest distributions show.

    Parameters
    ----------
    evaluation : Evaluation
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If the predictions have no distributions.
    """
    if evaluation.pit is None:
        raise InputError(f"{evaluation.prediction} has no redshift distributions: no PIT")
    ax = ax or make_axes(6, 4)
    pit = evaluation.pit
    ax.stairs(pit["density"], pit["edges"], fill=True, color="tab:blue", alpha=0.6)
    ax.axhline(1, color="black", lw=1)
    ax.axhspan(1 - pit["density_error"], 1 + pit["density_error"], color="grey", alpha=0.3, lw=0)
    ax.set(
        xlim=(0, 1),
        ylim=(0, None),
        xlabel="PIT: probability given to redshifts below the true one" + _note(evaluation),
        ylabel="density (1 where honest)",
        title=f"{pit['n']:,} galaxies, largest deviation {pit['largest_deviation']:.3f}",
    )
    return ax


def plot_coverage(
    evaluation: Evaluation, against: str = "predicted", ax: Axes | None = None
) -> Axes:
    """Draw per bin how often the intervals hold the true redshift.

    Parameters
    ----------
    evaluation : Evaluation
    against : {"predicted", "brightness"}
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If the predictions have no intervals, or no such bins.
    """
    name = f"coverage_by_{against}"
    if name not in evaluation.tables:
        raise InputError(f"{evaluation.prediction} has no intervals per bin of {against}")
    ax = ax or make_axes(6, 4)
    table = evaluation.tables[name]
    for number, nominal in enumerate(np.unique(table["nominal"])):
        color = f"C{number}"
        rows = table[(table["nominal"] == nominal) & (table["n"] > 0)]
        _draw_points(ax, rows, "coverage", color=color, label=f"{100 * nominal:.0f} % intervals")
        ax.axhline(nominal, color=color, lw=1, ls="--")
    _label_bins(ax, against, evaluation)
    ax.set(ylim=(0, 1.02), ylabel="holds the true redshift")
    place_legend(ax)
    return ax


def _plot_per_bin(
    evaluations: Evaluations,
    against: str,
    ax: Axes | None,
    metric: str,
    words: str,
    *,
    mark_weak: bool,
) -> Axes:
    if against not in ("predicted", "true", "brightness"):
        raise InputError(f"against must be predicted, true or brightness, not '{against}'")
    named = {"": evaluations} if isinstance(evaluations, Evaluation) else evaluations
    shown = {k: e for k, e in named.items() if f"by_{against}" in e.tables}
    if not shown:
        raise InputError(f"there is no column to bin by {against}")
    ax = ax or make_axes(6.5, 4)
    for number, (label, evaluation) in enumerate(shown.items()):
        table = evaluation.tables[f"by_{against}"]
        _draw_points(
            ax,
            table[table["n"] > 0],
            metric,
            color=f"C{number}",
            label=label,
            shift=number - 0.5 * (len(shown) - 1),
        )
    _limit_range(ax, [e.tables[f"by_{against}"] for e in shown.values()], metric)
    if metric == "bias":
        ax.axhline(0, color="black", lw=1)
    first = next(iter(shown.values()))
    _label_bins(ax, against, first)
    ax.set_ylabel(words)
    if mark_weak and against != "brightness":
        _mark_weak(ax, *ax.get_xlim(), vertical=True)
    if not isinstance(evaluations, Evaluation):
        place_legend(ax, columns=3)
    return ax


def _draw_points(
    ax: Axes, rows: Any, metric: str, *, color: str, label: str, shift: float = 0
) -> None:
    if not len(rows):
        return
    low, high = np.asarray(rows["low"]), np.asarray(rows["high"])
    x = 0.5 * (low + high) + 0.1 * shift * (high - low)
    y, error = np.asarray(rows[metric]), np.asarray(rows[f"{metric}_error"])
    enough = np.asarray(rows["n"]) >= FEWEST
    ax.plot(x, y, "-", color=color, lw=0.8, alpha=0.6)
    for chosen, face in ((enough, color), (~enough, "none")):
        if chosen.any():
            ax.errorbar(
                x[chosen],
                y[chosen],
                yerr=error[chosen],
                fmt="o",
                ms=4,
                color=color,
                mfc=face,
                capsize=2,
                label=label if chosen is enough or not enough.any() else None,
            )


def _limit_range(ax: Axes, tables: list[Any], metric: str) -> None:
    """Let bins of few galaxies not set the scale."""
    ends = []
    for table in tables:
        rows = table[table["n"] >= FEWEST]
        value, error = np.asarray(rows[metric]), np.asarray(rows[f"{metric}_error"])
        ends += [*(value - 2 * error), *(value + 2 * error)]
    if ends:
        low, high = min(0.0, *ends), max(0.0, *ends)
        margin = 0.1 * (high - low) or 0.01
        ax.set_ylim(low - margin if low else 0.0, high + margin)


def _label_bins(ax: Axes, against: str, evaluation: Evaluation) -> None:
    name = {"predicted": "predicted redshift", "true": "true redshift"}.get(against)
    brightness = evaluation.brightness or against
    unit = " (e$^-$/s)" if brightness.endswith("flux") else ""
    unit = " (mag)" if "mag" in brightness else unit
    ax.set_xlabel((name or brightness + unit) + _note(evaluation))
    if name is None and brightness.endswith("flux"):
        ax.set_xscale("log")
        for which in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
            which(lambda value, _: f"{value:g}")  # not as powers of ten


def _mark_weak(ax: Axes, low: float, high: float, *, vertical: bool) -> None:
    """Shade UGC's weak ranges; the narrow one is widened so that it can be seen."""
    span = ax.axvspan if vertical else ax.axhspan
    for start, stop, _ in UGC_WEAK_RANGES:
        first, last = max(start, low), min(stop, high)
        if first < last:
            pad = max(0.0, 0.004 - (last - first)) / 2
            span(first - pad, last + pad, color="tab:orange", alpha=0.25, lw=0)
    if vertical:
        ax.set_xlim(low, high)


def _note(evaluation: Evaluation) -> str:
    return " (simulated galaxies)" if evaluation.simulated else ""
