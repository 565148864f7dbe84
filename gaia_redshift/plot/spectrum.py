"""A BP/RP spectrum with the lines expected at a redshift: `plot_spectrum`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID, N_BP, SamplingGrid
from gaia_redshift.inspect.content import LINES
from gaia_redshift.plot.canvas import find_row, make_axes
from gaia_redshift.spectra import FluxVectors, XPSpectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LINES", "plot_spectrum"]

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

    one = _find_one(spectrum, row, source_id)
    bands = [("BP", slice(0, N_BP), "tab:blue"), ("RP", slice(N_BP, None), "tab:orange")]
    unit = "flux (e$^-$/s per sample)"
    if calibrated:
        found: Any = _calibrate(one)
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
    known = redshift is not None and not np.ma.is_masked(redshift) and np.isfinite(redshift)
    title = f"source_id {name}"
    if known:
        assert redshift is not None
        title += f", z = {float(redshift):.4f}"
        if lines:
            _mark_lines(ax, float(redshift), wavelength)
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="wavelength (nm)", ylabel=unit)
    ax.set_title(title, pad=34 if known and lines else None)
    ax.margins(y=0.12)  # room for the legend above the curves
    ax.legend(loc="upper left", ncols=2, framealpha=1, edgecolor="none")
    return ax


def _find_one(spectrum: Any, row: int, source_id: int | None) -> XPSpectra | FluxVectors:
    if not isinstance(spectrum, XPSpectra | FluxVectors):
        from gaia_redshift.readers import read_spectra

        spectrum = read_spectra(spectrum)
    return spectrum[find_row(spectrum.source_id, row, source_id)]


def _calibrate(one: XPSpectra | FluxVectors) -> Any:
    from gaia_redshift.calibrated import calibrate_spectra

    if isinstance(one, FluxVectors):
        raise InputError("sampled vectors cannot be calibrated: give the spectra themselves")
    return calibrate_spectra(one)


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
