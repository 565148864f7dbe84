"""How near a model comes to the limit of what spectra tell, with brightness and without.

    python -m research.shape_limit [--galaxies 300] [--templates 400000] [--seed 4242]
        [--model NAME]

For simulated galaxies: the median of the posterior under the simulator itself
(`research.benchmark.limit`) beside the model's, with SDSS's redshifts and brightness as prior, and
with a flat prior and brightness unknown. Also of those galaxies alone whose posterior rests on at
least 100 effective templates: of the others the limit is an upper one.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from gaia_redshift import load_model, sample_spectra, simulate_spectra
from research.benchmark.limit import estimate_limit

ENOUGH = 100
QUESTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "brightness and spectrum": ({"survey": "sdss", "brightness": True}, "redshift"),
    "shape alone": ({"survey": "flat", "brightness": False}, "shape"),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=300)
    parser.add_argument("--templates", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    spectra: Any = simulate_spectra(args.galaxies, seed=args.seed)
    true = np.asarray(spectra.columns["redshift_true"], np.float64)
    vectors = sample_spectra(spectra)
    found = load_model(args.model).predict(vectors.flux, vectors.flux_error, shape=True)
    print("| told | galaxies | n | MAE of the limit | of the model | ratio |\n" + "|---" * 6 + "|")
    for told, (options, answer) in QUESTIONS.items():
        limit = estimate_limit(
            spectra, n_templates=args.templates, seed=77, progress=True, **options
        )
        enough = limit.sample_size >= ENOUGH
        for words, rows in {"all": np.ones(len(true), bool), "trusted": enough}.items():
            best, ours = (
                float(np.abs(z - true)[rows].mean()) for z in (limit.median, getattr(found, answer))
            )
            print(
                f"| {told} | {words} | {rows.sum()} | {best:.4f} | {ours:.4f} | {ours / best:.2f} |"
            )


if __name__ == "__main__":
    main()
