"""The simulator's report in words and tables (Markdown)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.simulate.instrument import BANDS
from research.simulator.real_noise import LAGS
from research.simulator.report_numbers import TRANSITS

__all__ = ["format_report"]


def format_report(report: dict[str, Any]) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    report : dict
        What `research.simulator.report.report_simulation` returned.
    """
    grid = report["means"]["grid_nm"]
    ends = ", ".join(f"{b.upper()} {grid[b][0]:g}-{grid[b][-1]:g} nm" for b in BANDS)
    usual = grid == DEFAULT_GRID.to_dict()
    which = "the package's default" if usual else "not the package's default"
    lines = [
        "# Report on simulated galaxies",
        "",
        f"{report['n']:,} **simulated** galaxies (none was observed), seed {report['seed']}, survey"
        f" {report['survey']}, gaia_redshift {report['package']}.",
        "",
        *_describe_photometry(report["photometry"]),
        "## Mean spectra",
        "",
        "Simulated over real (Kiraleos 2023, read off a figure; 1,000 galaxies a bin, 520 in the"
        " last). The simulated means are expected means, of so many galaxies as the table says;"
        f" they are sampled on the grid that the calibration found, {ends}, {which}. rms: scatter"
        " of the ratio over the samples with a real mean above 0.5 e-/s per sample, after dividing"
        " by the level. The error of the level is the simulated galaxies' scatter; the real means"
        " have one several times as large.",
        "",
        "| z | galaxies | level | rms (%) | BP/RP |",
        "|---|---|---|---|---|",
        *(
            f"| {b['z_low']:.1f}-{b['z_high']:.1f} | {b['n']:,} | {b['level']:.3f} +-"
            f" {b['level_error']:.3f} | {100 * b['rms']:.2f} | {b['bp_rp']:.3f} |"
            for b in report["means"]["bins"]
        ),
        "",
        "![Mean spectra, simulated and real](means.png)",
        "",
        "## Noise",
        "",
        *_describe_residuals(report["residuals"]),
    ]
    if "noise_sources" in report:
        lines += [
            f"Real sources: {report['noise_sources']['n']:,} of"
            f" {report['noise_sources']['file']}. Predicted over published flux errors at the same"
            " coefficients, transits and fit's standard deviation, all samples; the flux range is"
            " that of 98 % of the simulated galaxies (mean of the band's samples).",
            "",
            "| band | sources | number | 16 % | median | 84 % |",
            "|---|---|---|---|---|---|",
        ]
        for band in BANDS:
            found = report["noise"][band]
            low, high = found["flux_range"]
            for key, words in (
                ("galaxy_range", f"{low:.2f}-{high:.1f} e-/s per sample"),
                ("all", "all"),
            ):
                ratio = " | ".join(f"{v:.3f}" for v in found[key]["ratio_16_50_84"])
                lines.append(f"| {band.upper()} | {words} | {found[key]['n']} | {ratio} |")
        lines.append("")
    lines += [
        "Correlation of the noise of samples that lie so far apart (median over sources):",
        "",
        f"| samples apart | {' | '.join(str(lag) for lag in LAGS)} |",
        "|---" * (LAGS.size + 1) + "|",
    ]
    for band in BANDS:
        for key, words in (
            ("simulated", "simulated galaxies"),
            ("predicted", "predicted for real sources"),
            ("real", "real sources"),
        ):
            values = report["noise"][band].get(f"autocorrelation_{key}")
            if values:
                cells = " | ".join(f"{v:+.3f}" for v in values)
                lines.append(f"| {band.upper()}, {words} | {cells} |")
    lines += [
        "",
        "![Flux errors of simulated galaxies against flux](errors.png)",
        "",
        "![Autocorrelation of noise](autocorrelation.png)",
        "",
        "## Colour and flux against redshift",
        "",
        "![Colour and flux of simulated galaxies](population.png)",
        "",
    ]
    return "\n".join(lines)


def _describe_photometry(found: dict[str, Any]) -> list[str]:
    """Lines on fluxes and colours."""
    real = found["kept_real"]
    ranges = ", ".join(f"{b.upper()} {real[b][0]:.2f} to {real[b][1]:.2f}" for b in BANDS)
    lines = [
        "## Photometry",
        "",
        "Integrals of simulated spectra, noise included, beside Gaia's photometry of galaxies with"
        " SDSS redshifts: median and scatter (half the range from 16 to 84 %) of log10 of the RP"
        " flux (e-/s) and of BP/RP. Kept: part of the flux that the 186 samples hold (real"
        f" galaxies: {ranges}).",
        "",
        "| z | galaxies | real | log RP | real | log BP/RP | real | kept BP | kept RP |",
        "|---" * 9 + "|",
    ]
    for b in found["bins"]:
        cells = [
            f"{b[f'{name}{end}']:.3f} +- {b[f'{name}_scatter{end}']:.3f}"
            for name in ("log_rp", "log_bp_rp")
            for end in ("", "_real")
        ]
        lines.append(
            f"| {b['z_low']:.2f}-{b['z_high']:.2f} | {b['n']:,} | {b['n_real']} |"
            f" {' | '.join(cells)} | {b['kept_bp']:.3f} | {b['kept_rp']:.3f} |"
        )
    return [*lines, "", "![Photometry, simulated and real](photometry.png)", ""]


def _describe_residuals(rows: list[dict[str, Any]]) -> list[str]:
    """Lines on high-frequency noise."""
    bins = [f"{a:g}-{b:g}" for a, b in itertools.pairwise(TRANSITS)]
    lines = [
        "High-frequency noise: rms residual of a Savitzky-Golay filter (third order; median over"
        " galaxies, e-/s per sample) at given mean flux of the band, against its transits:",
        "",
        f"| band | filter (samples) | mean flux | {' | '.join(bins)} |",
        "|---" * (3 + len(bins)) + "|",
    ]
    for row in rows:
        cells = " | ".join(f"{v:.3f}" if np.isfinite(v) else "" for v in row["rms"])
        low, high = row["level"]
        lines.append(f"| {row['band'].upper()} | {row['window']} | {low:g}-{high:g} | {cells} |")
    return [*lines, ""]
