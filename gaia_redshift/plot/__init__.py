"""Figures of spectra and redshifts. Each takes matplotlib axes or makes its own, and returns them.

Axes of their own are on a new figure of pyplot, so that notebooks show them. They need no display
and leave matplotlib's settings alone: `save_plot` writes the figure of axes.
"""

from gaia_redshift.inspect.content import LINES
from gaia_redshift.plot.canvas import check_plot, save_plot
from gaia_redshift.plot.redshifts import (
    plot_predictions,
    plot_redshift_cone,
    plot_redshift_map,
)
from gaia_redshift.plot.source import plot_pdf, plot_source, plot_spectrum

__all__ = [
    "LINES",
    "check_plot",
    "plot_pdf",
    "plot_predictions",
    "plot_redshift_cone",
    "plot_redshift_map",
    "plot_source",
    "plot_spectrum",
    "save_plot",
]
