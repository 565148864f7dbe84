"""Redshifts of many sources: `plot_predictions`, and on the sky `plot_redshift_map` and `_cone`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.clean import explain_table, find_clean
from gaia_redshift.errors import InputError
from gaia_redshift.metrics.points import compute_metrics, to_floats
from gaia_redshift.plot.canvas import draw_diagonal, draw_pairs, make_axes

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes

__all__ = ["plot_predictions", "plot_redshift_cone", "plot_redshift_map"]

Floats = NDArray[np.float64]


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
    true = None if truth is None else find_truth(table, truth)
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
    dots: Any = {"ms": 4, "alpha": 0.6, "label": "usable"}
    draw_pairs(ax, true[usable], predicted[usable], (low, top), unit="sources", **dots)
    if others.any():
        ax.legend(loc="upper left", frameon=False)
    draw_diagonal(ax, (low, top), 0.15)
    ax.set(xlabel="true redshift", ylabel="predicted redshift")


def find_truth(table: Table, truth: str | ArrayLike) -> Any:
    """Return true redshifts (n,), given or of a column, NaN where masked."""
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


def plot_redshift_map(
    table: Table,
    *,
    redshift: str = "redshift_cnn",
    ra: str = "ra",
    dec: str = "dec",
    level: int = 4,
    value: str = "median",
    ax: Axes | None = None,
) -> Axes:
    """Draw the median redshift, or the number of sources, in HEALPix cells of the sky.

    Parameters
    ----------
    table : Table
        With positions (deg, ICRS) and redshifts; masked rows are left out.
    redshift, ra, dec : str
        Names of its columns.
    level : int
        Of the cells: 4 are 3,072 cells of 3.7 degrees.
    value : {"median", "count"}
    ax : matplotlib Axes, optional
        Best of projection "mollweide", as the ones made by default; others show degrees.

    Returns
    -------
    Axes
        East is left, as on the sky, where the projection is one of the whole sky.

    Raises
    ------
    InputError
        If a column is missing, an argument makes no sense or there is nothing to draw.
    """
    from astropy import units
    from astropy_healpix import lonlat_to_healpix
    from matplotlib.patheffects import withStroke

    if not isinstance(level, int) or not 0 <= level <= 9:
        raise InputError(f"level must be from 0 to 9, not {level!r}")
    if value not in ("median", "count"):
        raise InputError(f"value must be median or count, not {value!r}")
    z, lon, lat = _take(table, redshift, ra, dec)
    nside = 2**level
    cell = lonlat_to_healpix(lon * units.deg, lat * units.deg, nside, order="nested")
    cells, which, counts = np.unique(cell, return_inverse=True, return_counts=True)
    drawn = np.full(12 * nside**2, np.nan)
    if value == "count":
        drawn[cells] = counts
    else:
        order = np.argsort(which.reshape(-1), kind="stable")
        parts = np.split(z[order], np.cumsum(counts)[:-1])
        drawn[cells] = [np.median(part) for part in parts]
    ax = ax or make_axes(8, 4.6, projection="mollweide")
    whole = ax.name in ("mollweide", "aitoff", "hammer")
    if whole:
        x_deg, y_deg = np.linspace(-180, 180, 1441), np.linspace(-90, 90, 721)
    else:
        size = 180 / np.pi / nside  # about that of a cell
        x_deg = np.linspace(max(lon.min() - size, 0), min(lon.max() + size, 360), 800)
        y_deg = np.linspace(max(lat.min() - size, -90), min(lat.max() + size, 90), 600)
    middle_x, middle_y = (x_deg[1:] + x_deg[:-1]) / 2, (y_deg[1:] + y_deg[:-1]) / 2
    # On the sky seen from inside, right ascension rises to the left.
    there, up = np.meshgrid((-middle_x if whole else middle_x) % 360, middle_y)
    pixels = lonlat_to_healpix(there * units.deg, up * units.deg, nside, order="nested")
    picture = np.ma.masked_invalid(drawn[pixels])
    scale = np.radians if whole else np.asarray
    mesh = ax.pcolormesh(scale(x_deg), scale(y_deg), picture, cmap="viridis", rasterized=True)
    label = "sources" if value == "count" else f"median {redshift}"
    ax.figure.colorbar(mesh, ax=ax, label=label, shrink=0.8)
    if whole:
        ticks = np.arange(-120, 121, 60)
        ax.set_xticks(np.radians(ticks), [f"{-t % 360:d}°" for t in ticks])
        for name in ax.get_xticklabels():  # they stand on the picture
            name.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        ax.grid(color="0.7", lw=0.4)
    else:
        ax.set(xlabel="right ascension (deg)", ylabel="declination (deg)")
        ax.invert_xaxis()
    ax.set_title(f"{len(z):,} sources")
    return ax


def plot_redshift_cone(
    table: Table,
    *,
    redshift: str = "redshift_cnn",
    ra: str = "ra",
    dec: str | None = "dec",
    ax: Axes | None = None,
) -> Axes:
    """Draw redshift against right ascension as a wedge, seen from the pole.

    Parameters
    ----------
    table : Table
        As for `plot_redshift_map`.
    redshift, ra, dec : str
        Names of its columns; ``dec`` colours the points, None does not.
    ax : matplotlib Axes, optional
        Of projection "polar".

    Returns
    -------
    Axes
        They span the right ascensions of the sources, if these are not all around.

    Raises
    ------
    InputError
        If a column is missing, the axes are not polar, or there is nothing to draw.
    """
    z, lon, lat = _take(table, redshift, ra, dec)
    ax = ax or make_axes(6.5, 6, projection="polar")
    if ax.name != "polar":
        raise InputError("a cone needs axes of projection 'polar'")
    polar: Any = ax
    centre = np.degrees(np.angle(np.exp(1j * np.radians(lon)).sum()))
    angle = (lon - centre + 180) % 360 - 180 + centre
    options = {"c": lat, "cmap": "viridis"} if dec else {"color": "tab:blue"}
    dots = ax.scatter(np.radians(angle), z, s=max(0.5, 12 - 2.5 * np.log10(len(z))), **options)
    if dec:
        ax.figure.colorbar(dots, ax=ax, label="declination (deg)", shrink=0.7)
    width = angle.max() - angle.min()
    if width < 300:
        margin = 0.03 * width + 0.1
        polar.set_thetamin(angle.min() - margin)
        polar.set_thetamax(angle.max() + margin)
    polar.set_rmin(min(0.0, float(z.min())))
    polar.set_rmax(float(np.percentile(z, 99.8)) * 1.05)
    ax.set_title(f"{len(z):,} sources: {redshift} against right ascension")
    return ax


def _take(table: Table, redshift: str, ra: str, dec: str | None) -> tuple[Floats, Floats, Floats]:
    """Return redshifts and positions of the rows that have both."""
    columns = []
    for name in (redshift, ra, dec):
        if name is None:
            columns.append(np.zeros(len(table)))
            continue
        if name not in table.colnames:
            shown = ", ".join(table.colnames[:15])
            raise InputError(f"no column '{name}' to draw; there are: {shown}")
        try:
            numbers = np.ma.asarray(table[name]).astype(float)
        except (TypeError, ValueError):
            raise InputError(f"the column '{name}' does not hold numbers") from None
        columns.append(np.asarray(np.ma.filled(numbers, np.nan)))
    z, lon, lat = columns
    good = np.isfinite(z) & np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
    if not good.any():
        raise InputError("no row has a redshift and a position")
    return z[good], lon[good] % 360, lat[good]
