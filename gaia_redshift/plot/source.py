"""One object as one figure, spectrum, distribution and flags: `plot_source`; many as pages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._display import show_progress
from gaia_redshift._files import check_target
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.flags import decode_flags
from gaia_redshift.plot.canvas import check_plot, find_row, make_figure
from gaia_redshift.plot.redshifts import plot_pdf
from gaia_redshift.plot.spectrum import plot_spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gaia_redshift.inspect.content import Inspection

__all__ = ["plot_source", "show_sources"]

_SIZE = (9.0, 7.0)
_WORDS = 16
"""Columns named on a figure; more do not fit."""


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
    from gaia_redshift.inspect.content import gather_objects

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
    from matplotlib.figure import Figure

    from gaia_redshift.inspect.content import gather_objects

    if output is not None:
        check_plot(output)
        check_target(Path(output), overwrite)
    found = gather_objects(sources, n_simulated=0, progress=progress, **options)
    if output is None:
        _show_window(found)
        return 1
    figure = Figure(figsize=_SIZE)
    try:
        if Path(output).suffix.lower() == ".pdf":
            return _write_pages(figure, found, output, progress)
        if len(found) > 1:
            raise InputError(
                f"{len(found):,} objects need a .pdf, which may have pages; or choose one by its"
                " source_id, or with --limit 1"
            )
        _draw(figure, found, 0)
        figure.savefig(output, dpi=150)
    except OSError as error:
        raise InputError(f"cannot write the plot {output}: {error.strerror}") from error
    return 1


def _show_window(found: Inspection) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot

    if len(found) > 1:
        raise InputError(
            f"{len(found):,} objects: choose one by its source_id, or write a .pdf (-o)"
        )
    _draw(pyplot.figure(figsize=_SIZE), found, 0)
    if mpl.get_backend().lower() == "agg":
        raise InputError("there is no display to show a window on: write the figure with -o FILE")
    pyplot.show()


def _write_pages(figure: Any, found: Inspection, output: Any, progress: bool) -> int:
    from matplotlib.backends.backend_pdf import PdfPages

    with (
        PdfPages(output) as pages,
        show_progress("drawing", len(found), unit="page", shown=progress) as advance,
    ):
        for row in range(len(found)):
            _draw(figure, found, row)
            pages.savefig(figure)
            advance(1)
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
