"""Report on the simulator: ``python -m research.simulator.report -n 20000 --seed 1 -o DIR``.

Simulated galaxies beside what is known of real ones: their mean spectra per redshift bin, the
noise of real sources, colour and brightness against redshift. Plots (PNG), ``report.json`` with
all numbers, ``report.md`` to read.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift import __version__
from gaia_redshift.errors import GaiaRedshiftError, InputError
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.simulate.generate import simulate_blocks
from gaia_redshift.simulate.instrument import BANDS
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.survey import load_parameters
from gaia_redshift.spectra import XPSpectra
from research.simulator import figures
from research.simulator.calibration import BIN_EDGES, compare_means, load_real_means
from research.simulator.real_noise import (
    BAND_SAMPLES,
    LAGS,
    compare_noise,
    compute_autocorrelation,
    count_transits,
    read_real_sources,
)
from research.simulator.report_numbers import Population, scale_to_typical
from research.simulator.report_text import format_report

__all__ = ["GALAXIES_PER_BIN", "main", "measure_means", "report_simulation"]

_log = logging.getLogger(__name__)

Float = NDArray[np.float64]

GALAXIES_PER_BIN = 10_000
"""Simulated galaxies behind each mean spectrum: what remains of their scatter is 1.6 % of the level
below z = 0.1 and less than half a per cent beyond, a third of that of 1,000 as in the real ones."""
_AUTOCORRELATED = 200
"""Simulated galaxies whose covariances are looked at: they hardly differ."""


def report_simulation(
    n: int,
    seed: int,
    survey: Any,
    output: str | os.PathLike[str],
    *,
    noise_sources: str | os.PathLike[str] | None = None,
    per_bin: int = GALAXIES_PER_BIN,
    progress: bool = False,
) -> dict[str, Any]:
    """Simulate galaxies and report how they compare with real ones.

    Parameters
    ----------
    n : int
        Galaxies for photometry and noise.
    seed : int
    survey
        As for `gaia_redshift.simulate_spectra`.
    output : path
        Folder to write to, made if it is not there. Files of earlier reports are replaced.
    noise_sources : path, optional
        Real spectra with errors and correlations, to compare the noise with.
    per_bin : int
        Galaxies behind each mean spectrum.
    progress : bool
        Show progress bars.

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    InputError
        If something is wrong with the arguments, or the folder cannot be written.
    """
    chosen = Survey.resolve(survey)
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error}") from error
    real = None if noise_sources is None else read_real_sources(noise_sources)

    population = Population()
    first: XPSpectra | None = None
    for block in simulate_blocks(n, seed=seed, survey=chosen, block_size=2000, progress=progress):
        first = block[:_AUTOCORRELATED] if first is None else first
        population.add(block, sample_spectra(block))
    assert first is not None

    means, result = measure_means(chosen, seed, per_bin=per_bin, progress=progress)
    report: dict[str, Any] = {
        "simulated": True,
        "package": __version__,
        "n": n,
        "seed": seed,
        "survey": chosen.name,
        "means": result,
        "photometry": population.compare_photometry(),
        "residuals": population.measure_residuals(),
        "noise": {
            band: {
                "autocorrelation_simulated": np.median(
                    compute_autocorrelation(first, band), axis=0
                ).tolist()
            }
            for band in BANDS
        },
    }
    if real is not None:
        ranges = {}
        for band in BANDS:
            low, high = np.percentile(population[f"level_{band}"], [1, 99])
            ranges[band] = (max(float(low), 0.0), float(high))
        for band, found in compare_noise(real, ranges).items():
            report["noise"][band] |= found
        report["noise_sources"] = {"file": Path(noise_sources or "").name, "n": len(real)}

    _draw(folder, report, population, means=means, real=real)
    try:
        text = json.dumps(_without_nan(report), indent=1)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(format_report(report), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the report to {folder}: {error}") from error
    return report


def measure_means(
    survey: Any, seed: int, *, per_bin: int = GALAXIES_PER_BIN, progress: bool = False
) -> tuple[Float, dict[str, Any]]:
    """Compare simulated with real mean spectra (Kiraleos 2023).

    The simulated ones are expected means: of many more galaxies than the real ones (1,000, fewer
    above z = 0.5), with the survey's redshifts inside each bin. They are sampled on the grid that
    the survey's calibration found.

    Parameters
    ----------
    survey
        As for `gaia_redshift.simulate_spectra`.
    seed : int
    per_bin : int
        Galaxies in each bin.
    progress : bool
        Show a progress bar for each bin.

    Returns
    -------
    means : ndarray, shape (6, 186), e-/s per sample
        NaN in bins where the survey has no galaxies.
    result : dict
        Grid, and per bin the number of galaxies, level with its standard error, rms of the ratio
        (where the real mean exceeds 0.5 e-/s, after dividing by the level), and BP/RP flux ratio,
        simulated over real.
    """
    chosen = Survey.resolve(survey)
    ends = load_parameters().grid_end_points
    grid = SamplingGrid(bp=ends["bp"], rp=ends["rp"])
    means = np.full((BIN_EDGES.size - 1, 186), np.nan)
    scatter = np.full(BIN_EDGES.size - 1, np.nan)
    for b in range(BIN_EDGES.size - 1):
        low, high = round(float(BIN_EDGES[b]), 6), round(float(BIN_EDGES[b + 1]), 6)
        try:
            part, _ = chosen.restrict(low, high)
        except InputError:
            continue
        blocks = simulate_blocks(
            per_bin,
            seed=seed + 1 + b,  # not the galaxies of the other bins, nor those of the main run
            survey=part,
            correlations=False,
            progress=progress,
        )
        flux = np.concatenate(
            [sample_spectra(block, grid=grid, errors=False).flux for block in blocks]
        )
        means[b] = flux.mean(axis=0)
        total = flux.sum(axis=1)
        scatter[b] = total.std() / total.mean() / np.sqrt(per_bin)
    filled = np.isfinite(means).all(axis=1)
    found = compare_means(np.where(filled[:, None], means, 1.0))
    bins = [
        {
            "z_low": round(float(BIN_EDGES[b]), 6),
            "z_high": round(float(BIN_EDGES[b + 1]), 6),
            "n": per_bin,
            "level": float(found.level[b]),
            "level_error": float(found.level[b] * scatter[b]),
            "rms": float(found.rms[b]),
            "bp_rp": float(found.colour[b]),
        }
        for b in np.flatnonzero(filled)
    ]
    return means, {"grid_nm": grid.to_dict(), "bins": bins}


def _draw(
    folder: Path,
    report: dict[str, Any],
    population: Population,
    *,
    means: Float,
    real: XPSpectra | None,
) -> None:
    from gaia_redshift.plot import save_plot

    points = None
    if real is not None:
        vectors = sample_spectra(real)
        assert vectors.flux_error is not None
        assert real.columns is not None
        points = {}
        for band, samples in BAND_SAMPLES.items():
            scale = scale_to_typical(count_transits(real, band), band)
            scale /= np.asarray(real.columns[f"{band}_standard_deviation"], dtype=float)
            error = vectors.flux_error[:, samples] * scale[:, None]
            points[band] = (vectors.flux[:, samples], error)
    real_means = load_real_means()
    save_plot(figures.draw_means(means, real_means, report["means"]), folder / "means.png")
    save_plot(figures.draw_errors(population.histograms, points), folder / "errors.png")
    save_plot(figures.draw_autocorrelation(report["noise"], LAGS), folder / "autocorrelation.png")
    level = {band: population[f"level_{band}"] for band in BANDS}
    ax = figures.draw_population(population["redshift"], level, real_means, BIN_EDGES)
    save_plot(ax, folder / "population.png")
    save_plot(figures.draw_photometry(report["photometry"]), folder / "photometry.png")


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the report; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.report",
        description="Report how simulated galaxies compare with real ones.",
    )
    parser.add_argument("-n", type=int, default=20_000, help="number of galaxies (20,000)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (1)")
    parser.add_argument("--survey", default="sdss", choices=["sdss", "flat"])
    parser.add_argument(
        "--noise-sources", metavar="FILE", help="real DR3 spectra with errors and correlations"
    )
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder to write to")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        report_simulation(
            options.n,
            options.seed,
            options.survey,
            options.output,
            noise_sources=options.noise_sources,
            progress=sys.stderr.isatty(),
        )
    except GaiaRedshiftError as error:
        _log.error("error: %s", error)
        return 1
    _log.info("report on simulated galaxies: %s", Path(options.output) / "report.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
