"""Redshifts on the sky: `plot_redshift_map` (HEALPix) and `plot_redshift_cone` (wedge)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.plot.canvas import make_axes

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes

__all__ = ["plot_redshift_cone", "plot_redshift_map"]

Floats = NDArray[np.float64]


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
