"""Axes to draw on, figures as files or in a window, and the row to draw."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import show_progress
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "check_plot",
    "draw_diagonal",
    "draw_pairs",
    "find_row",
    "make_axes",
    "make_figure",
    "off_screen",
    "place_legend",
    "save_pages",
    "save_plot",
    "show_window",
]

CROWDED = 3000
"""Above so many galaxies their density is drawn instead of points."""
Draw = Callable[["Figure", int], None]
"""Draws one of several on a figure, which it clears."""

_off_screen: ContextVar[bool] = ContextVar("off_screen", default=False)


@contextmanager
def off_screen() -> Iterator[None]:
    """Make figures outside pyplot: for those that only become files, and go when they have."""
    token = _off_screen.set(True)
    try:
        yield
    finally:
        _off_screen.reset(token)


def make_figure(width: float, height: float, *, layout: str = "constrained") -> Figure:
    """Return a new figure of pyplot, which notebooks and `pyplot.show` show; sizes in inches."""
    options: Any = {"figsize": (width, height), "layout": layout}
    if _off_screen.get():
        from matplotlib.figure import Figure

        return Figure(**options)
    from matplotlib import pyplot

    return pyplot.figure(**options)


def make_axes(width: float, height: float, **options: Any) -> Axes:
    """Return axes on a new figure of pyplot."""
    return make_figure(width, height).add_subplot(**options)


def draw_pairs(
    ax: Axes, true: Any, predicted: Any, ends: tuple[float, float], *, unit: str, **dots: Any
) -> None:
    """Draw predicted over true redshifts as dots, of many their density; ``ends`` of both axes."""
    if len(true) <= CROWDED:
        ax.plot(true, predicted, ".", color="tab:blue", **dots)
        return
    extent = (*ends, *ends)
    drawn = ax.hexbin(true, predicted, gridsize=80, extent=extent, bins="log", mincnt=1)
    ax.figure.colorbar(drawn, ax=ax, label=unit)


def draw_diagonal(ax: Axes, ends: tuple[float, float], width: float) -> None:
    """Draw where predicted redshifts are the true ones, and where dz is ``width`` on both sides."""
    line = np.array(ends)
    ax.plot(line, line, "-", color="black", lw=1)
    for sign in (-1, 1):
        ax.plot(line, line + sign * width * (1 + line), ":", color="grey", lw=1)
    ax.set(xlim=ends, ylim=ends, aspect="equal")


def place_legend(ax: Axes, title: str = "", *, columns: int = 2) -> None:
    """Put the legend between the title and the axes, off the data."""
    count = len(ax.get_legend_handles_labels()[1])
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        fontsize="small",
        frameon=False,
        borderaxespad=0.2,
    )
    ax.set_title(title, pad=8 + 16 * -(-count // columns))


def check_plot(path: str | os.PathLike[str]) -> None:
    """Find out, before any work, whether `save_plot` can write there.

    Raises `InputError` if the ending is not one of pictures, or there is no such folder.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    target = Path(path)
    if target.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise InputError(f"cannot write the plot {target}: end its name in .png, .pdf or .svg")
    if not target.parent.is_dir():
        raise InputError(f"cannot write the plot {target}: there is no folder {target.parent}")


def save_plot(ax: Axes | Figure, path: str | os.PathLike[str]) -> None:
    """Save a figure, or the one that axes belong to, by the ending of the name.

    Parameters
    ----------
    ax : matplotlib Axes or Figure
    path : path
        .png, .pdf or .svg.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    check_plot(path)
    figure: Any = getattr(ax, "figure", ax)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the plot {os.fspath(path)}: {error}") from error


def save_pages(
    draw: Draw,
    n: int,
    path: str | os.PathLike[str],
    size: tuple[float, float],
    *,
    progress: bool,
) -> None:
    """Write ``n`` figures as pages of a PDF, or the only one as a picture; sizes in inches."""
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    try:
        if Path(path).suffix.lower() == ".pdf":
            with (
                PdfPages(path) as pages,
                show_progress("drawing", n, unit="page", shown=progress) as advance,
            ):
                for row in range(n):
                    draw(figure, row)
                    pages.savefig(figure)
                    advance(1)
            return
        if n > 1:
            raise InputError(
                f"{n:,} objects need a .pdf, which may have pages; or choose one by its source_id,"
                " or with --limit 1"
            )
        draw(figure, 0)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"cannot write the plot {path}: {error.strerror}") from error


def show_window(draw: Draw, n: int, size: tuple[float, float]) -> None:
    """Show the only figure in a window; `InputError` if there are more, or there is no display."""
    import matplotlib as mpl
    from matplotlib import pyplot

    if n > 1:
        raise InputError(f"{n:,} objects: choose one by its source_id, or write a .pdf (-o)")
    draw(pyplot.figure(figsize=size), 0)
    if mpl.get_backend().lower() == "agg":
        raise InputError("there is no display to show a window on: write the figure with -o FILE")
    pyplot.show()


def find_row(source_ids: NDArray[np.int64], row: int, source_id: int | None) -> int:
    """Return the row, of the first source with this id where one is given.

    Raises `InputError` if there is no such row or source.
    """
    if source_id is not None:
        found = np.flatnonzero(source_ids == int(source_id))
        if not len(found):
            raise InputError(f"there is no source_id {source_id} among {len(source_ids):,} sources")
        return int(found[0])
    if not -len(source_ids) <= row < len(source_ids):
        raise InputError(f"there is no row {row}: there are {len(source_ids)} sources")
    return row
