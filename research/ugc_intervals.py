"""Intervals of a support vector machine on simulated galaxies beside those that UGC published.

    python -m research.ugc_intervals --published FILE [--train 6000] [--test 20000] [--seed 51]

UGC's interval is constant within bins of 0.02 of its redshift: offset and scatter of its test
galaxies there. FILE is a table of its half-widths in real data (columns z_ugc_low, half_width). The
same is measured here for a support vector machine like UGC's, trained and tested on simulated
galaxies, and for the default model: half the 16-84 % range of predicted less true redshift per bin
of predicted redshift.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from gaia_redshift import load_model, sample_spectra, simulate_spectra
from research.benchmark.baselines import fit_baseline

FEWEST = 30


def measure_widths(predicted: Any, true: Any, edges: Any) -> list[float]:
    """Half the 16-84 % range of the errors per bin; NaN where there are few galaxies."""
    widths = []
    for low, high in itertools.pairwise(edges):
        error = (predicted - true)[(predicted >= low) & (predicted < high)]
        few = len(error) < FEWEST
        widths.append(np.nan if few else 0.5 * np.diff(np.percentile(error, [16, 84]))[0])
    return widths


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--test", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=51)
    args = parser.parse_args()
    learn: Any = simulate_spectra(args.train, seed=args.seed, correlations=False)
    flux = sample_spectra(learn, errors=False).flux
    machine: Any = fit_baseline("svr", flux, np.asarray(learn.columns["redshift_true"], np.float64))
    test: Any = simulate_spectra(args.test, seed=args.seed + 1000)
    vectors = sample_spectra(test)
    true = np.asarray(test.columns["redshift_true"], np.float64)
    published = Table.read(args.published, format="ascii.csv", comment="#")
    edges = np.append(published["z_ugc_low"], published["z_ugc_low"][-1] + 0.02)
    answers: dict[str, Any] = {
        "support vectors": machine.predict(vectors.flux),
        "default model": load_model().predict(vectors.flux, vectors.flux_error).redshift,
    }
    widths = {name: measure_widths(z, true, edges) for name, z in answers.items()}
    for name, z in answers.items():
        error = z - true
        print(f"{name}: MAE {np.abs(error).mean():.4f}, bias {error.mean():+.4f} (simulated)")
    print(f"\n| predicted redshift | UGC, real | {' | '.join(f'{n}, simulated' for n in widths)} |")
    print("|---" * (len(widths) + 2) + "|")
    for i, row in enumerate(published):
        cells = " | ".join(f"{w[i]:.3f}" for w in widths.values())
        print(f"| {edges[i]:.2f}-{edges[i + 1]:.2f} | {row['half_width']:.3f} | {cells} |")


if __name__ == "__main__":
    main()
