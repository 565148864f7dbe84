"""One object: `plot_spectrum`, `plot_pdf`, and both with its flags: `plot_source`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gaia_redshift._files import check_target
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.flags import decode_flags
from gaia_redshift.grid import DEFAULT_GRID, N_BP, SamplingGrid
from gaia_redshift.inspect.content import LINES, Inspection, gather_objects
from gaia_redshift.metrics.distributions import find_quantiles
from gaia_redshift.peaks import take_distributions
from gaia_redshift.plot.canvas import (
    check_plot,
    find_row,
    make_axes,
    make_figure,
    place_legend,
    save_pages,
    show_window,
)
from gaia_redshift.plot.redshifts import find_truth
from gaia_redshift.spectra import FluxVectors, XPSpectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_pdf", "plot_source", "plot_spectrum", "show_sources"]

_SIZE = (9.0, 7.0)
_WORDS = 16
"""Columns named on a figure; more do not fit."""
_COLOURS = {"emission": "tab:red", "absorption": "0.35"}


def plot_spectrum(
    spectrum: Any,
    redshift: float | None = None,
    *,
    row: int = 0,
    source_id: int | None = None,
    grid: SamplingGrid = DEFAULT_GRID,
    lines: bool = True,
    calibrated: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw the BP and RP samples of a source against wavelength.

    Parameters
    ----------
    spectrum : XPSpectra, FluxVectors, or what `gaia_redshift.read_spectra` takes
    redshift : float, optional
        Predicted or true: the lines expected there are marked. NaN or masked marks none.
    row : int
        Which of several sources.
    source_id : int, optional
        Which one, by its id.
    grid : SamplingGrid
        Where coefficients are sampled; vectors have their own.
    lines : bool
        Mark lines.
    calibrated : bool
        In physical units, by `gaia_redshift.calibrate_spectra`, instead of electrons.
    ax : matplotlib Axes, optional

    Returns
    -------
    Axes
        Their title has the ``source_id`` and the redshift.

    Raises
    ------
    InputError
        If there is no such row, or its spectrum cannot be sampled.
    """
    from gaia_redshift.sampling import sample_spectra, sample_wavelengths

    if not isinstance(spectrum, XPSpectra | FluxVectors):
        from gaia_redshift.readers import read_spectra

        spectrum = read_spectra(spectrum)
    one: Any = spectrum[find_row(spectrum.source_id, row, source_id)]
    bands = [("BP", slice(0, N_BP), "tab:blue"), ("RP", slice(N_BP, None), "tab:orange")]
    unit = "flux (e$^-$/s per sample)"
    if calibrated:
        from gaia_redshift.calibrated import calibrate_spectra

        found: Any = calibrate_spectra(one)
        wavelength, bands = found.wavelength, [("BP and RP", slice(None), "tab:blue")]
        unit = "flux density (W m$^{-2}$ nm$^{-1}$)"
    else:
        found = one if isinstance(one, FluxVectors) else sample_spectra(one, grid=grid)
        wavelength = np.asarray(sample_wavelengths(found.grid))
    name, flux = int(found.source_id[0]), np.asarray(found.flux[0], dtype=float)
    if not np.isfinite(flux).all():
        raise InputError(f"source_id {name}: its spectrum has no fluxes to draw")
    errors = None if found.flux_error is None else np.asarray(found.flux_error[0], dtype=float)
    ax = ax or make_axes(8, 4.5)
    for band, rows, colour in bands:
        x, y = wavelength[rows], flux[rows]
        ax.plot(x, y, "-", color=colour, lw=1.5, label=band)
        if errors is not None and np.isfinite(errors[rows]).all():
            e = errors[rows]
            ax.fill_between(x, y - e, y + e, color=colour, alpha=0.25, lw=0)
    ax.set_xlim(wavelength.min() - 10, wavelength.max() + 10)
    z = np.nan if redshift is None or np.ma.is_masked(redshift) else float(redshift)
    known = bool(np.isfinite(z))
    if known and lines:
        _mark_lines(ax, z, wavelength)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="wavelength (nm)", ylabel=unit)
    title = f"source_id {name}" + (f", z = {z:.4f}" if known else "")
    ax.set_title(title, pad=34 if known and lines else None)
    ax.margins(y=0.12)  # room for the legend above the curves
    ax.legend(loc="upper left", ncols=2, framealpha=1, edgecolor="none")
    return ax


def _mark_lines(ax: Axes, redshift: float, wavelength: Any) -> None:
    for name, (rest, kind) in LINES.items():
        at = rest * (1 + redshift)
        if not wavelength.min() <= at <= wavelength.max():
            continue
        style = "-" if kind == "emission" else "--"
        ax.axvline(at, color=_COLOURS[kind], ls=style, lw=0.8, alpha=0.7, zorder=0)
        ax.annotate(
            name,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            color=_COLOURS[kind],
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
        truth = find_truth(pdf, truth)[row] if isinstance(truth, str) else truth
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


@preserve_settings()
def plot_source(
    sources: Any,
    source_id: int | None = None,
    *,
    row: int = 0,
    figure: Figure | None = None,
    **options: Any,
) -> Figure:
    """Draw all about one object: spectrum with lines, distribution of the redshift, flags.

    Parameters
    ----------
    sources : path, list of paths, DataFrame, Table, XPSpectra, ids, ADQL, ...
        What `gaia_redshift.predict_table` takes.
    source_id : int, optional
        Which of several sources.
    row : int
        Which one, where no ``source_id`` is given.
    figure : matplotlib Figure, optional
        Where to draw; what is on it goes. By default a new figure of pyplot.
    **options
        ``columns`` (to be named on the figure), ``model``, ``prior``, ``any_release``, ``archive``,
        as for `gaia_redshift.inspect_spectra`.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the input cannot be read or has no such source.

    Examples
    --------
    >>> from gaia_redshift.plot import plot_source
    >>> plot_source("galaxies.parquet", 5937083312263887616)  # doctest: +SKIP
    """
    if source_id is not None:
        options["ids"] = [int(source_id)]
    elif row >= 0 and "limit" not in options:
        options["limit"] = row + 1
    found = gather_objects(sources, n_simulated=0, **options)
    chosen = find_row(np.asarray(found.table["source_id"]), row, source_id)
    figure = figure or make_figure(*_SIZE, layout="none")
    _draw(figure, found, chosen)
    return figure


def show_sources(
    sources: Any,
    output: str | os.PathLike[str] | None,
    *,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> int:
    """Draw each object on a page of a PDF, the first as a picture or, without output, in a window.

    Arguments as for `gaia_redshift.inspect_spectra`; returns the number of pages.
    """
    if output is not None:
        check_plot(output)
        check_target(Path(output), overwrite)
    found = gather_objects(sources, n_simulated=0, progress=progress, **options)

    def draw(figure: Figure, row: int) -> None:
        _draw(figure, found, row)

    if output is None:
        show_window(draw, len(found), _SIZE)
        return 1
    save_pages(draw, len(found), output, _SIZE, progress=progress)
    return len(found)


def _draw(figure: Any, found: Inspection, row: int) -> None:
    """Draw one object; margins are fixed, for a layout that is worked out takes most of a page."""
    figure.clear()
    table = found.table
    redshift = table["redshift_cnn"][row]
    known = not np.ma.is_masked(redshift)
    top = figure.add_axes((0.09, 0.53, 0.88, 0.33))
    if np.isfinite(found.vectors.flux[row]).all():
        plot_spectrum(found.vectors, redshift, row=row, ax=top)
        top.set_title("")
    else:
        _write(top, "no spectrum to draw")
    low = figure.add_axes((0.09, 0.08, 0.42, 0.29))
    if known and "redshift_cnn_pdf" in table.colnames:
        truth = "redshift_true" if "redshift_true" in table.colnames else None
        plot_pdf(table, row=row, truth=truth, ax=low)
        low.set_title("")
    else:
        _write(low, "no distribution" if known else "no redshift")
    title = f"source_id {int(table['source_id'][row])}"
    figure.text(0.09, 0.965, title, fontsize=13, weight="bold", va="top")
    figure.text(0.55, 0.38, _describe(found, row), va="top", fontsize=8.5, linespacing=1.45)


def _write(ax: Any, words: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes)


def _describe(found: Inspection, row: int) -> str:
    """Return the numbers and flags, a line each."""
    table = found.table
    value = {name: table[name][row] for name in found.shown}
    lines = []
    if np.ma.is_masked(value["redshift_cnn"]):
        lines.append("no redshift")
    else:
        text = f"redshift {float(value['redshift_cnn']):.4f}"
        if "redshift_cnn_lower" in value:
            lower, upper = value["redshift_cnn_lower"], value["redshift_cnn_upper"]
            text += f"  (68 %: {float(lower):.4f} to {float(upper):.4f})"
        lines.append(text)
    for number, (z, odds) in enumerate(found.peaks[row], start=1):
        lines.append(f"peak {number}: {z:.4f}, {100 * odds:.0f} %")
    words = decode_flags(int(value["flags_cnn"]))
    lines.append("flags: " + (", ".join(words).replace("_", " ") or "none"))
    own = ("redshift_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "flags_cnn")
    for name in [name for name in found.shown if name not in own][:_WORDS]:
        cell = value[name]
        number = isinstance(cell, float | np.floating) and not np.ma.is_masked(cell)
        unit = table[name].unit
        lines.append(f"{name}: {f'{float(cell):.5g}' if number else cell} {unit or ''}".rstrip())
    return "\n".join(lines).replace("$", r"\$")
