"""What the bundled models do on galaxies that they never saw, and on what is no galaxy.

    python benchmarks/model_checks.py [--galaxies 50000] [--flat 20000] [--others 5000]
        [--reference FILE] [--real FILE] [--model NAME] [-o FILE]

Everything but ``--real`` is simulated. Prints one table per question: errors by true redshift,
beside the real ones of a reference table (columns z_low, mean_error, std_error) where it is given;
errors, coverage and PIT by predicted redshift and by brightness; a flat sky with the prior
"flat"; vectors from moved grids; fluxes scaled, BP against RP, grid end points moved; galaxies of
other generators (`templates`); stars and quasars; real spectra of other sources. Numbers go to a
JSON file as well.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from templates import simulate_others

from gaia_redshift.evaluate import compute_metrics
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import DEFAULT_GRID, N_BP, SamplingGrid, draw_grid
from gaia_redshift.metrics.distributions import compute_crps
from gaia_redshift.model.distribution import compute_quantiles
from gaia_redshift.model.registry import RedshiftModel, load_model
from gaia_redshift.sampling import sample_spectra
from gaia_redshift.simulate import simulate_blocks, simulate_spectra
from gaia_redshift.spectra import XPSpectra

Array = NDArray[Any]

BLOCK = 5000
LEVELS = (0.025, 0.16, 0.5, 0.84, 0.975)
FEWEST = 500
MOVED_NM = 3.0
GRIDS = 20


@dataclass
class Sample:
    """Vectors of spectra with their true redshifts."""

    flux: Array
    flux_error: Array
    redshift: Array
    transits: Array
    """Of RP."""
    moved: Array
    """On grids drawn from the plausible range."""
    shifted: dict[str, Array]
    """On the model's grid with one end point moved."""


def make_blocks(n: int, seed: int, survey: str) -> Iterator[XPSpectra]:
    """Simulate galaxies."""
    return simulate_blocks(n, seed=seed, survey=survey, block_size=BLOCK, progress=True)


def collect(blocks: Iterator[XPSpectra], *, moved: bool = False) -> Sample:
    """Sample blocks of spectra; the first one on shifted grids too."""
    rng = np.random.default_rng(5)
    grids = [draw_grid(rng) for _ in range(GRIDS)] if moved else []
    parts: list[list[Array]] = [[], [], [], [], []]
    shifted: dict[str, Array] = {}
    for number, block in enumerate(blocks):
        vectors = sample_spectra(block, errors=True)
        parts[0].append(vectors.flux.astype(np.float32))
        assert vectors.flux_error is not None
        parts[1].append(vectors.flux_error.astype(np.float32))
        columns = block.columns
        known = columns is not None and "redshift_true" in columns.colnames
        parts[2].append(
            np.asarray(columns["redshift_true"], float) if known else np.full(len(block), np.nan)
        )
        parts[3].append(
            np.asarray(columns["transits_rp"], float) if known else np.full(len(block), np.nan)
        )
        if moved:
            flux = np.empty(vectors.flux.shape, np.float32)
            for i, grid in enumerate(grids):
                rows = np.arange(i, len(block), GRIDS)
                flux[rows] = sample_spectra(block[rows], grid=grid, errors=False).flux
            parts[4].append(flux)
            if number == 0:
                for name, grid in shift_grids().items():
                    shifted[name] = sample_spectra(block, grid=grid, errors=False).flux
    joined = [np.concatenate(part) if part else np.empty(0) for part in parts]
    return Sample(*joined, shifted)


def shift_grids() -> dict[str, SamplingGrid]:
    """Return the default grid with one of its end points moved."""
    found = {}
    for band in ("bp", "rp"):
        for end, name in ((0, "blue"), (1, "red")):
            for sign in (-1, 1):
                ends = {b: list(getattr(DEFAULT_GRID, b)) for b in ("bp", "rp")}
                ends[band][end] += sign * MOVED_NM
                found[f"{band} {name} end {sign * MOVED_NM:+g} nm"] = SamplingGrid(
                    bp=tuple(ends["bp"]), rp=tuple(ends["rp"])
                )
    return found


def tell(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    print(f"\n## {title}")
    keys = list(rows[0])
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in rows:
        cells = [f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |", flush=True)


def by_redshift(z: Array, true: Array, reference: Path | None) -> list[dict[str, Any]]:
    """Mean error and scatter in bins of true redshift, beside the reference's."""
    real: dict[float, dict[str, float]] = {}
    if reference is not None:
        with reference.open(newline="") as stream:
            lines = [line for line in stream if not line.startswith("#")]
        for row in csv.DictReader(lines):
            numbers = {key: float(value) for key, value in row.items()}
            real[round(numbers["z_low"], 3)] = numbers
    rows = []
    for low in np.arange(0, 0.6, 0.05):
        inside = (true >= low) & (true < low + 0.05)
        if not inside.any():
            continue
        error = (z - true)[inside]
        row: dict[str, Any] = {
            "true redshift": f"{low:.2f}-{low + 0.05:.2f}",
            "n": int(inside.sum()),
            "mean error": float(error.mean()),
            "scatter": float(error.std()),
        }
        if round(low, 3) in real:
            other = real[round(low, 3)]
            row |= {
                "real mean error": other["mean_error"],
                "real scatter": other["std_error"],
                "difference": float(error.mean() - other["mean_error"]),
                "scatter ratio": float(error.std() / other["std_error"]),
            }
        rows.append(row)
    return rows


def predict_quantiles(model: RedshiftModel, flux: Array, error: Array, prior: str) -> Array:
    """Quantiles `LEVELS` of each distribution and the PIT's ingredients, shape (5, n)."""
    parts = []
    assert model.bins is not None
    for start in range(0, len(flux), BLOCK):
        rows = slice(start, start + BLOCK)
        found = model.predict(flux[rows], error[rows], prior=prior, pdf=True)
        assert found.pdf is not None
        mass = found.pdf.astype(float) * np.diff(model.bins.edges)
        parts.append(compute_quantiles(mass, model.bins.edges, LEVELS))
    return np.concatenate(parts, axis=1)


def describe_bins(
    q: Array, true: Array, values: Array, edges: Array, name: str
) -> list[dict[str, Any]]:
    """Errors and coverage where a bin has enough galaxies."""
    rows = []
    for low, high in [(-np.inf, np.inf), *itertools.pairwise(edges)]:
        here = (values >= low) & (values < high)
        if here.sum() < FEWEST:
            continue
        z, t = q[:, here], true[here]
        rows.append(
            {
                name: "all" if np.isinf(low) else f"{low:.3g} to {high:.3g}",
                "n": int(here.sum()),
                "mean error": float((z[2] - t).mean()),
                "MAE": float(np.abs(z[2] - t).mean()),
                "within 68 %": float(((t >= z[1]) & (t <= z[3])).mean()),
                "within 95 %": float(((t >= z[0]) & (t <= z[4])).mean()),
            }
        )
    return rows


def measure_pit(model: RedshiftModel, flux: Array, error: Array, true: Array) -> Array:
    """Histogram of the probability integral transform in ten bins, 1 where flat."""
    assert model.bins is not None
    edges, values = model.bins.edges, []
    for start in range(0, len(flux), BLOCK):
        rows = slice(start, start + BLOCK)
        found = model.predict(flux[rows], error[rows], pdf=True)
        assert found.pdf is not None
        mass = found.pdf.astype(float) * np.diff(edges)
        below = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
        cell = np.clip(np.searchsorted(edges, true[rows], side="right") - 1, 0, len(edges) - 2)
        i = np.arange(len(mass))
        part = (true[rows] - edges[cell]) / (edges[cell + 1] - edges[cell])
        values.append(below[i, cell] + part * mass[i, cell])
    return np.histogram(np.concatenate(values), np.linspace(0, 1, 11))[0] * 10 / len(true)


def measure_crps(model: RedshiftModel, flux: Array, error: Array, true: Array) -> float:
    """Mean continuous ranked probability score."""
    assert model.bins is not None
    values = []
    for start in range(0, len(flux), BLOCK):
        rows = slice(start, start + BLOCK)
        found = model.predict(flux[rows], error[rows], pdf=True)
        assert found.pdf is not None
        values.append(compute_crps(true[rows], found.pdf.astype(float), model.bins.edges))
    return float(np.mean(np.concatenate(values)))


def measure_auroc(inside: Array, outside: Array) -> float:
    """Probability that one of ``outside`` scores above one of ``inside``."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


def check_kiraleos(
    result: dict[str, Any], sky: Sample, others: dict[str, Sample], reference: Any
) -> None:
    """The questions to the network of 2023."""
    model = load_model("kiraleos2023")
    z = model.predict(sky.flux).redshift
    mae = float(np.abs(z - sky.redshift).mean())
    result["kiraleos2023"] = rows = by_redshift(z, sky.redshift, reference)
    tell("kiraleos2023 by true redshift", rows)
    moved = float(np.abs(model.predict(sky.moved).redshift - sky.redshift).mean())
    result["kiraleos2023_summary"] = rows = [
        {"galaxies": "sdss", "MAE": mae, "ratio": 1.0},
        {"galaxies": "sdss, moved grids", "MAE": moved, "ratio": moved / mae},
    ]
    for name, other in others.items():
        error = float(np.abs(model.predict(other.flux).redshift - other.redshift).mean())
        rows.append({"galaxies": name, "MAE": error, "ratio": error / mae})
    tell("kiraleos2023", rows)


def check_default(
    result: dict[str, Any], sky: Sample, flat: Sample, others: dict[str, Sample], args: Any
) -> None:
    """The questions to the default model."""
    model = load_model(args.model)
    if model.bins is None:
        return
    q = predict_quantiles(model, sky.flux, sky.flux_error, "sdss")
    result["by_prediction"] = rows = describe_bins(
        q, sky.redshift, q[2], np.arange(0, 0.601, 0.05), "predicted redshift"
    )
    tell("default by predicted redshift, prior sdss", rows)
    level = np.log10(sky.flux.mean(axis=1))
    edges = np.quantile(level, np.linspace(0, 1, 7))
    result["by_brightness"] = rows = describe_bins(
        q, sky.redshift, level, edges, "log10 mean flux (e-/s per sample)"
    )
    tell("default by brightness", rows)
    result["by_transits"] = rows = describe_bins(
        q, sky.redshift, sky.transits, np.array([6, 15, 25, 30, 35, 40, 50, 151]), "RP transits"
    )
    tell("default by transits", rows)
    result["crps"] = rows = [{"CRPS": measure_crps(model, sky.flux, sky.flux_error, sky.redshift)}]
    tell("default: CRPS", rows)
    none = np.full_like(sky.flux_error, np.nan)
    q = predict_quantiles(model, sky.flux, none, "sdss")
    result["without_errors"] = rows = describe_bins(
        q, sky.redshift, q[2], np.array([]), "without errors"
    )
    tell("default without flux errors", rows)
    pit = measure_pit(model, sky.flux, sky.flux_error, sky.redshift)
    result["pit"] = rows = [{f"{i / 10:.1f}": float(v) for i, v in enumerate(pit)}]
    tell("default: PIT histogram, 1 is flat", rows)
    q = predict_quantiles(model, flat.flux, flat.flux_error, "flat")
    rows = describe_bins(q, flat.redshift, flat.redshift, np.arange(0, 0.601, 0.05), "true z")
    result["flat"] = rows
    tell('default, prior "flat" on a flat sky, by true redshift', rows)

    base = model.predict(sky.flux, sky.flux_error)
    summary = []
    for name, sample, flux in (
        ("sdss", sky, sky.flux),
        ("sdss, moved grids", sky, sky.moved),
        *((name, other, other.flux) for name, other in others.items()),
    ):
        found = model.predict(flux, sample.flux_error)
        m = compute_metrics(found.redshift, sample.redshift)
        unlike = (found.flags & int(QualityFlag.UNLIKE_TRAINING)) != 0
        summary.append(
            {
                "galaxies": name,
                "MAE": float(m["mae"]),
                "sigma_NMAD": float(m["sigma_nmad"]),
                "bias": float(m["bias"]),
                "flagged unlike": float(unlike.mean()),
            }
        )
    for row in summary:
        row["sigma_NMAD ratio"] = row["sigma_NMAD"] / summary[0]["sigma_NMAD"]
    result["default_summary"] = summary
    tell("default on other galaxies", summary)

    first = slice(0, BLOCK)
    ratio = np.ones(sky.flux.shape[1])
    ratio[:N_BP] = 1.02
    changes = {
        "flux x 1.05": (sky.flux[first] * 1.05, sky.flux_error[first] * 1.05),
        "BP x 1.02": (sky.flux[first] * ratio, sky.flux_error[first] * ratio),
        **{name: (flux, sky.flux_error[first]) for name, flux in sky.shifted.items()},
    }
    rows = []
    for name, (flux, error) in changes.items():
        shift = model.predict(flux, error).redshift - base.redshift[first][: len(flux)]
        rows.append(
            {
                "change": name,
                "median shift": float(np.median(shift)),
                "median abs shift": float(np.median(np.abs(shift))),
            }
        )
    result["small_changes"] = rows
    tell("default: small changes", rows)
    check_novelty(result, model, sky, base, args)


def check_novelty(
    result: dict[str, Any], model: RedshiftModel, sky: Sample, base: Any, args: Any
) -> None:
    """Stars, quasars and real sources against galaxies."""
    middle = np.median(sky.flux.mean(axis=1))
    bright = sky.flux.mean(axis=1) > middle
    flagged = (base.flags & int(QualityFlag.UNLIKE_TRAINING)) != 0
    rows: list[dict[str, Any]] = [
        {"sources": "galaxies", "n": len(flagged), "flagged": float(flagged.mean()), "AUROC": ""}
    ]
    samples: dict[str, XPSpectra] = {
        f"{kind}s": simulate_spectra(args.others, seed=3001, kind=kind)
        for kind in ("star", "quasar")
    }
    if args.real is not None:
        from gaia_redshift import read_spectra

        samples["real sources"] = read_spectra(args.real)
    for name, spectra in samples.items():
        vectors = sample_spectra(spectra, errors=True)
        found = model.predict(vectors.flux, vectors.flux_error)
        some = np.isfinite(found.redshift)
        assert found.novelty is not None
        assert base.novelty is not None
        here = some if name == "real sources" else some & (vectors.flux.mean(axis=1) > middle)
        unlike = (found.flags & int(QualityFlag.UNLIKE_TRAINING)) != 0
        rows.append(
            {
                "sources": name if name == "real sources" else f"{name}, brighter half",
                "n": int(here.sum()),
                "flagged": float(unlike[here].mean()),
                "AUROC": measure_auroc(base.novelty[bright], found.novelty[here]),
            }
        )
    result["novelty"] = rows
    tell("default: unlike the training set", rows)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=50_000)
    parser.add_argument("--flat", type=int, default=20_000)
    parser.add_argument("--others", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=2001)
    parser.add_argument("--reference", type=Path, help="table of real errors by true redshift")
    parser.add_argument("--real", type=Path, help="real spectra that are no galaxies")
    parser.add_argument(
        "--model", default="default", help="model to check, by name or folder (default)"
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON file of all numbers")
    args = parser.parse_args()
    result: dict[str, Any] = {"galaxies": args.galaxies, "seed": args.seed}
    sky = collect(make_blocks(args.galaxies, args.seed, "sdss"), moved=True)
    flat = collect(make_blocks(args.flat, args.seed + 1, "flat"))
    others = {
        f"{name} mixtures": collect(iter([spectra]))
        for name, spectra in simulate_others(
            args.others, mixing=args.seed, seed=args.seed + 2
        ).items()
    }
    check_kiraleos(result, sky, others, args.reference)
    check_default(result, sky, flat, others, args)
    if args.output is not None:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
