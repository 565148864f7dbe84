"""A BP/RP spectrum with the lines expected at a redshift: `plot_spectrum`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, N_BP, SamplingGrid
from gaia_redshift.plot.canvas import make_axes
from gaia_redshift.spectra import FluxVectors, XPSpectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LINES", "plot_spectrum"]

LINES = {
    "[O II]": (372.8, "emission"),
    "Ca K, H": (395.2, "absorption"),
    "H$\\delta$": (410.3, "absorption"),
    "G": (430.6, "absorption"),
    "H$\\beta$": (486.3, "emission"),
    "[O III]": (500.8, "emission"),
    "Mg b": (517.6, "absorption"),
    "Na D": (589.3, "absorption"),
    "H$\\alpha$": (656.5, "emission"),
    "[S II]": (672.5, "emission"),
}
"""Rest wavelengths (nm, in vacuum but for some tenths) of what is prominent in galaxies, and how it
is usually seen. XP spectra resolve 30 to 100 of their wavelength: blends have one name."""
_COLOURS = {"emission": "tab:red", "absorption": "0.35"}


@preserve_settings()
def plot_spectrum(
    spectrum: Any,
    redshift: float | None = None,
    *,
    row: int = 0,
    grid: SamplingGrid = DEFAULT_GRID,
    lines: bool = True,
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
    grid : SamplingGrid
        Where coefficients are sampled; vectors have their own.
    lines : bool
        Mark lines.
    ax : matplotlib Axes, optional
        Where to draw; by default on a figure of its own (``ax.figure``), outside pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        If there is no such row, or its spectrum cannot be sampled.
    """
    from gaia_redshift.sampling import sample_wavelengths

    vectors = _find_vectors(spectrum, row, grid)
    source_id, flux = int(vectors.source_id[0]), np.asarray(vectors.flux[0], dtype=float)
    if not np.isfinite(flux).all():
        raise InputError(f"source_id {source_id}: its spectrum has no fluxes to draw")
    errors = None if vectors.flux_error is None else np.asarray(vectors.flux_error[0], dtype=float)
    wavelength = np.asarray(sample_wavelengths(vectors.grid))
    ax = ax or make_axes(8, 4.5)
    for band, rows, colour in (
        ("BP", slice(0, N_BP), "tab:blue"),
        ("RP", slice(N_BP, None), "tab:orange"),
    ):
        x, y = wavelength[rows], flux[rows]
        ax.plot(x, y, "-", color=colour, lw=1.5, label=band)
        if errors is not None and np.isfinite(errors[rows]).all():
            e = errors[rows]
            ax.fill_between(x, y - e, y + e, color=colour, alpha=0.25, lw=0)
    ax.set_xlim(wavelength.min() - 10, wavelength.max() + 10)
    known = redshift is not None and not np.ma.is_masked(redshift) and np.isfinite(redshift)
    title = f"source_id {source_id}"
    if known:
        assert redshift is not None
        title += f", z = {float(redshift):.4f}"
        if lines:
            _mark_lines(ax, float(redshift), wavelength)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="wavelength (nm)", ylabel="flux (e$^-$/s per sample)")
    ax.set_title(title, pad=34 if known and lines else None)
    ax.legend(loc="best", frameon=False)
    return ax


def _find_vectors(spectrum: Any, row: int, grid: SamplingGrid) -> FluxVectors:
    if not isinstance(spectrum, XPSpectra | FluxVectors):
        from gaia_redshift.readers import read_spectra

        spectrum = read_spectra(spectrum)
    if not -len(spectrum) <= row < len(spectrum):
        raise InputError(f"there is no row {row}: there are {len(spectrum)} sources")
    one = spectrum[row]
    if isinstance(one, FluxVectors):
        return one
    from gaia_redshift.sampling import sample_spectra

    return sample_spectra(one, grid=grid)


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
