"""Axes to draw on, and pictures as files; no display is needed and pyplot is left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot", "make_axes", "save_plot"]


def make_axes(width: float, height: float, **options: Any) -> Axes:
    """Return axes on a figure of their own, outside pyplot; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot(**options)


@preserve_settings()
def check_plot(path: str | os.PathLike[str]) -> None:
    """Find out, before any work, whether `save_plot` can write there.

    Raises
    ------
    InputError
        If the ending is not one of pictures, or there is no such folder.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    target = Path(path)
    if target.suffix.lower().removeprefix(".") not in FigureCanvasBase.get_supported_filetypes():
        raise InputError(f"cannot write the plot {target}: end its name in .png, .pdf or .svg")
    if not target.parent.is_dir():
        raise InputError(f"cannot write the plot {target}: there is no folder {target.parent}")


def save_plot(ax: Axes, path: str | os.PathLike[str]) -> None:
    """Save the figure that axes belong to, by the ending of its name (.png, .pdf, .svg).

    Raises
    ------
    InputError
        If it cannot be written.
    """
    check_plot(path)
    figure: Any = ax.figure
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the plot {os.fspath(path)}: {error}") from error
