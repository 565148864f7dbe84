"""The simulator's report in words and tables (Markdown)."""

from __future__ import annotations

from typing import Any

from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.simulate.instrument import BANDS
from gaia_redshift.simulate.real_noise import LAGS

__all__ = ["format_report"]


def format_report(report: dict[str, Any]) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    report : dict
        What `gaia_redshift.simulate.report.report_simulation` returned.
    """
    grid = report["means"]["grid_nm"]
    ends = ", ".join(f"{b.upper()} {grid[b][0]:g}-{grid[b][-1]:g} nm" for b in BANDS)
    usual = DEFAULT_GRID.to_dict()
    lines = [
        "# Report on simulated galaxies",
        "",
        f"{report['n']:,} **simulated** galaxies (none was observed), seed {report['seed']}, survey"
        f" {report['survey']}, gaia_redshift {report['package']}.",
        "",
        "## Mean spectra",
        "",
        "Simulated over real (Kiraleos 2023, read off a figure), with the numbers of galaxies of"
        f" the real means. Sampled on the survey's own fitted grid, {ends}, which is not the"
        f" package's default ({usual['bp'][0]:g}-{usual['bp'][-1]:g} and"
        f" {usual['rp'][0]:g}-{usual['rp'][-1]:g} nm). rms: scatter of the ratio over the samples"
        " with a real mean above 0.5 e-/s, after dividing by the level. The error of the level is"
        " the simulated galaxies' scatter; the real means have one of the same size.",
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
            for key, words in (("galaxy_range", f"{low:.2f}-{high:.1f} e-/s"), ("all", "all")):
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
