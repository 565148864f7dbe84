"""Figures of the simulator's report. Every one says which of its curves are simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.grid import N_BP, N_FLUX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ErrorHistogram",
    "draw_autocorrelation",
    "draw_errors",
    "draw_means",
    "draw_photometry",
    "draw_population",
]

Float = NDArray[np.floating]

_SIMULATED, _REAL = "tab:blue", "black"
_FLOOR = 0.5  # e-/s: below it reading errors of the real means dominate


class ErrorHistogram:
    """Counts of samples by flux and flux error (both logarithmic): percentiles without a list."""

    FLUX = np.linspace(-1.0, 3.0, 41)
    ERROR = np.linspace(-2.5, 2.0, 451)

    def __init__(self) -> None:
        self.counts = np.zeros((self.FLUX.size - 1, self.ERROR.size - 1), dtype=np.int64)

    def add(self, flux: Float, error: Float) -> None:
        """Count samples; those without positive flux and error are left out."""
        use = (flux > 0) & (error > 0)
        values = np.log10(flux[use]), np.log10(error[use])
        self.counts += np.histogram2d(*values, bins=(self.FLUX, self.ERROR))[0].astype(np.int64)

    def percentiles(self, least: int = 50) -> tuple[Float, Float]:
        """Return fluxes, shape (k,), and 16th, 50th and 84th percentile of the errors, (k, 3).

        Bins of flux with fewer than ``least`` samples are left out.
        """
        total = self.counts.sum(axis=1)
        rows = np.flatnonzero(total >= least)
        share = self.counts[rows].cumsum(axis=1) / total[rows, None]
        found = [[np.interp(q, row, self.ERROR[1:]) for q in (0.16, 0.5, 0.84)] for row in share]
        flux = 0.5 * (self.FLUX[1:] + self.FLUX[:-1])[rows]
        return 10**flux, 10 ** np.array(found).reshape(-1, 3)


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_means(means: Float, real: Float, result: dict[str, Any]) -> Axes:
    """Draw mean spectra, simulated and real, with the residual curve below each.

    Parameters
    ----------
    means, real : ndarray, shape (6, 186), e-/s per sample
        NaN rows in ``means`` are left out.
    result : dict
        The second value of `research.simulator.report.measure_means`.
    """
    figure = _new_figure(13, 9.5)
    grid = result["grid_nm"]
    figure.suptitle(
        "Simulated (expected) and real (Kiraleos 2023) mean spectra; simulated ones on the"
        " calibration's grid:\n"
        f"BP {grid['bp'][0]:g}-{grid['bp'][-1]:g} nm, RP {grid['rp'][0]:g}-{grid['rp'][-1]:g} nm",
        fontsize=11,
    )
    places = figure.add_gridspec(4, 3, height_ratios=[2.2, 1, 2.2, 1])
    x = np.arange(N_FLUX)
    axes: Any = None
    by_bin = {round(10 * b["z_low"]): b for b in result["bins"]}
    for b in range(len(real)):
        top = figure.add_subplot(places[2 * (b // 3), b % 3])
        below = figure.add_subplot(places[2 * (b // 3) + 1, b % 3], sharex=top)
        axes = axes or top
        title = f"z = {b / 10:.1f}-{(b + 1) / 10:.1f}"
        for part in (slice(0, N_BP), slice(N_BP, N_FLUX)):  # BP and RP are not one curve
            labels = ("real mean", "simulated mean") if part.start == 0 else (None, None)
            top.plot(x[part], real[b, part], color=_REAL, lw=1.6, label=labels[0])
            top.plot(x[part], means[b, part], color=_SIMULATED, lw=1.2, label=labels[1])
        if b in by_bin:
            found = by_bin[b]
            ratio = np.where(real[b] > _FLOOR, means[b] / real[b], np.nan) / found["level"]
            for part in (slice(0, N_BP), slice(N_BP, N_FLUX)):
                below.plot(x[part], 100 * (ratio[part] - 1), color=_SIMULATED, lw=1.2)
            title += (
                f": {found['n']:,} galaxies, level {found['level']:.3f}\n"
                f"rms {100 * found['rms']:.2f} %, BP/RP {found['bp_rp']:.3f}"
            )
        top.set_title(title, fontsize=10)
        below.axhline(0, color=_REAL, lw=0.8)
        reach = max(4.0, 1.1 * max(np.abs(below.get_ylim())))
        below.set_ylim(-reach, reach)
        top.tick_params(labelbottom=False)
        top.set_ylim(bottom=0)
        for ax in (top, below):
            ax.axvline(N_BP - 0.5, color="grey", lw=0.8, ls=":")
        if b % 3 == 0:
            top.set_ylabel("flux (e-/s per sample)")
            below.set_ylabel("simulated/real\n- level (%)")
        if b >= 3:
            below.set_xlabel("sample (80 BP, 106 RP)")
        if b == 0:
            top.legend(fontsize=9)
    return axes


def draw_errors(
    histograms: dict[str, ErrorHistogram], points: Mapping[str, tuple[Float, Float]] | None
) -> Axes:
    """Draw flux errors against flux, scaled to the same number of transits.

    Parameters
    ----------
    histograms : dict
        Per band, of simulated galaxies.
    points : dict, optional
        Per band, fluxes and errors of real sources' samples, shape (n, m).
    """
    figure = _new_figure(12, 5.5)
    figure.suptitle("Flux errors of simulated galaxies, at the typical number of transits")
    axes: Any = figure.subplots(1, len(histograms))
    for ax, (band, histogram) in zip(axes, histograms.items(), strict=True):
        if points is not None:
            flux, error = points[band]
            real = ErrorHistogram()
            real.add(flux, error)
            x, y = real.percentiles()
            ax.fill_between(x, y[:, 0], y[:, 2], color=_REAL, alpha=0.15, lw=0)
            ax.plot(x, y[:, 1], color=_REAL, label="real sources / fit's standard deviation")
        x, y = histogram.percentiles()
        ax.fill_between(x, y[:, 0], y[:, 2], color=_SIMULATED, alpha=0.3, lw=0)
        ax.plot(x, y[:, 1], color=_SIMULATED, label="simulated galaxies")
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="flux (e-/s per sample)",
            ylabel="flux error (e-/s per sample)",
            title=f"{band.upper()}: median, 16 to 84 %",
        )
        ax.legend()
    return axes[0]


def draw_autocorrelation(noise: dict[str, Any], lags: NDArray[np.integer]) -> Axes:
    """Draw the autocorrelation of noise, from covariances.

    Parameters
    ----------
    noise : dict
        ``report["noise"]`` of `research.simulator.report.report_simulation`.
    lags : ndarray of int
    """
    figure = _new_figure(11, 4.8)
    figure.suptitle("Correlation of the noise of neighbouring samples")
    axes: Any = figure.subplots(1, len(noise), sharey=True)
    styles = (
        ("real", "real sources", {"color": _REAL, "marker": "o"}),
        ("predicted", "predicted for the real sources", {"color": "tab:orange", "marker": "x"}),
        ("simulated", "simulated galaxies", {"color": _SIMULATED, "marker": "s", "ms": 4}),
    )
    for ax, (band, found) in zip(axes, noise.items(), strict=True):
        for key, label, style in styles:
            if f"autocorrelation_{key}" in found:
                ax.plot(lags, found[f"autocorrelation_{key}"], label=label, **style)
        ax.axhline(0, color="grey", lw=0.8)
        ax.set(xlabel="samples apart", title=band.upper())
        ax.legend(fontsize=9)
    axes[0].set_ylabel("correlation")
    return axes[0]


def draw_photometry(photometry: dict[str, Any]) -> Axes:
    """Draw medians and scatter of flux and colour, simulated and real, and the kept light.

    Parameters
    ----------
    photometry : dict
        As `research.simulator.report_numbers.Population.compare_photometry` returns it.
    """
    bins = photometry["bins"]
    figure = _new_figure(14, 4.8)
    figure.suptitle("Photometry of simulated galaxies beside real ones: median, 16 to 84 %")
    axes: Any = figure.subplots(1, 3)
    middle = np.array([0.5 * (b["z_low"] + b["z_high"]) for b in bins])
    names = (("log_rp", "log10 of RP flux (e-/s)"), ("log_bp_rp", "log10 of BP/RP"))
    for ax, (name, label) in zip(axes, names, strict=False):
        for end, moved, color, words in (
            ("", -0.003, _SIMULATED, "simulated"),
            ("_real", 0.003, _REAL, "real (SDSS galaxies)"),
        ):
            value, scatter = ([b[f"{name}{part}{end}"] for b in bins] for part in ("", "_scatter"))
            ax.errorbar(middle + moved, value, scatter, color=color, marker="o", label=words)
        ax.set(xlabel="redshift", ylabel=label)
        ax.legend(fontsize=9)
    for band, color in (("bp", "tab:blue"), ("rp", "tab:red")):
        axes[2].plot(
            middle, [b[f"kept_{band}"] for b in bins], "o-", color=color, label=band.upper()
        )
        axes[2].axhspan(*photometry["kept_real"][band], color=color, alpha=0.15, lw=0)
    axes[2].set(xlabel="redshift", ylabel="part of the flux in the kept samples")
    axes[2].legend(fontsize=9, title="bands: real galaxies")
    return axes[0]


def draw_population(redshift: Float, flux: Mapping[str, Float], real: Float, edges: Float) -> Axes:
    """Draw colour and brightness of simulated galaxies against redshift.

    Parameters
    ----------
    redshift : ndarray, shape (n,)
    flux : dict of ndarray, shape (n,), e-/s per sample
        Mean over each band's kept samples.
    real : ndarray, shape (6, 186), e-/s per sample
        Real mean spectra.
    edges : ndarray, shape (7,)
        Their redshift bins.
    """
    figure = _new_figure(12, 5.2)
    axes: Any = figure.subplots(1, 2)
    middle = 0.5 * (edges[1:] + edges[:-1])
    use = flux["rp"] > 0
    colour = flux["bp"][use] / flux["rp"][use]
    panels = (
        (colour, real[:, :N_BP].mean(axis=1) / real[:, N_BP:].mean(axis=1), (0.0, 1.2)),
        (np.log10(flux["rp"][use]), np.log10(real[:, N_BP:].mean(axis=1)), (-0.6, 2.0)),
    )
    names = ("BP/RP (mean flux per kept sample)", "log10 of mean RP flux (e-/s per sample)")
    fine = np.linspace(edges[0], edges[-1], 25)
    for ax, (values, means, limits), name in zip(axes, panels, names, strict=True):
        drawn = ax.hexbin(
            redshift[use], values, gridsize=70, bins="log", mincnt=1, cmap="Blues",
            extent=(edges[0], edges[-1], *limits),
        )  # fmt: skip
        figure.colorbar(drawn, ax=ax, label="simulated galaxies")
        which = np.digitize(redshift[use], fine) - 1
        x, y = [], []
        for i in range(fine.size - 1):
            if (which == i).sum() >= 5:
                x.append(0.5 * (fine[i] + fine[i + 1]))
                y.append(np.median(values[which == i]))
        ax.plot(x, y, color="tab:red", label="median of simulated galaxies")
        ax.plot(middle, means, "o", color=_REAL, label="real mean spectra (Kiraleos 2023)")
        ax.set(xlabel="redshift", ylabel=name, xlim=(edges[0], edges[-1]), ylim=limits)
        ax.legend(fontsize=9)
    axes[0].set_title("Colour of simulated galaxies (default grid)")
    axes[1].set_title("Brightness of simulated galaxies (default grid)")
    return axes[0]
