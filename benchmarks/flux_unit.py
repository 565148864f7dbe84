"""The curve behind `gaia_redshift.vectors`, and how surely it tells a wrong unit.

    python benchmarks/flux_unit.py [--galaxies 8000] [--seed 77] [--real FILE ...]

Fits ln of the roughness (what a Savitzky-Golay filter leaves of a vector) to ln of its mean flux
over simulated galaxies of the survey "sdss"; then says which part of simulated galaxies, other
than those of the fit, is flagged in the right unit and in wrong ones: each vector by itself, files
of 100, and with photometry. Faint real sources (`--real`, archive files of XP spectra) show how far
the curve holds for them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from gaia_redshift import FluxVectors, read_spectra, sample_spectra, simulate_spectra
from gaia_redshift.flags import FATAL
from gaia_redshift.simulate import load_instrument
from gaia_redshift.simulate.instrument import BANDS
from gaia_redshift.vectors import _CURVE, _JUDGED, flag_unit, measure_roughness

FACTORS = (1.0, 1.2, 1.5, 2.0, 2.8, 5.0, 30.0, 0.7, 0.5, 1 / 2.8, 0.1)
FILE = 100
ALONE = 500


def fit_curve(vectors: FluxVectors) -> None:
    """Fit the polynomial and print it beside the one in the package."""
    level = np.log(vectors.flux.mean(axis=1))
    rough = measure_roughness(vectors.flux)
    use = (level > _JUDGED[0]) & (level < _JUDGED[1]) & np.isfinite(rough)
    curve = np.polyfit(level[use], rough[use], len(_CURVE) - 1)
    rest = rough[use] - np.polyval(curve, level[use])
    print(f"simulated galaxies: {use.sum():,} of {len(vectors):,}")
    print(f"curve: {', '.join(f'{v:.4f}' for v in curve)}; rms about it {rest.std():.3f}")
    known = rough[use] - np.polyval(_CURVE, level[use])
    print(f"package's curve: median departure {np.median(known):+.3f}, rms {known.std():.3f}")


def measure_detection(vectors: FluxVectors, photometry: Table) -> None:
    """Print the parts flagged in right and wrong units."""
    low, high = vectors.flux.min(axis=0), vectors.flux.max(axis=0)
    changes = {f"x {factor:.3g}": factor * vectors.flux for factor in FACTORS}
    changes["columns scaled to 0..1"] = (vectors.flux - low) / (high - low)
    changes["rows scaled to 0..1"] = vectors.flux / vectors.flux.max(axis=1, keepdims=True)
    print(
        "\n| flux | alone | files of 100 | with photometry | factor told |\n|---|---|---|---|---|"
    )
    for name, flux in changes.items():
        changed = replace(vectors, flux=flux)
        alone = [flag_unit(changed[i : i + 1])[0][0] != 0 for i in range(ALONE)]
        flags, factors = [], []
        for start in range(0, len(vectors), FILE):
            found, factor = flag_unit(changed[start : start + FILE])
            flags.append(found != 0)
            if factor is not None:
                factors.append(factor)
        with_photometry, _ = flag_unit(changed, photometry)
        told = f"{np.median(factors):.3g}" if factors else ""
        shares = [np.mean(alone), np.mean(np.concatenate(flags)), np.mean(with_photometry != 0)]
        print(f"| {name} | {' | '.join(f'{100 * v:.1f} %' for v in shares)} | {told} |")


def measure_real(path: str) -> None:
    """Print how far faint real sources lie from the curve."""
    vectors = sample_spectra(read_spectra(path), errors=False)
    vectors = vectors[np.flatnonzero((vectors.quality & int(FATAL)) == 0)]
    level = np.log(np.maximum(vectors.flux.mean(axis=1), 1e-6))
    faint = (level > _JUDGED[0]) & (level < _JUDGED[1])
    rest = measure_roughness(vectors.flux[faint]) - np.polyval(_CURVE, level[faint])
    name = Path(path).name
    print(f"\nreal sources, {name}: {faint.sum()} of {len(vectors)} are faint enough")
    if faint.any():
        quartiles = ", ".join(f"{v:+.2f}" for v in np.percentile(rest, [16, 50, 84]))
        flags, _ = flag_unit(vectors)
        print(f"departure from the curve, 16, 50, 84 %: {quartiles}")
        print(f"flagged: {100 * np.mean(flags[faint] != 0):.1f} %")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--galaxies", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--real", nargs="*", default=[], metavar="FILE")
    arguments = parser.parse_args()
    n, seed = arguments.galaxies, arguments.seed
    fit_curve(sample_spectra(simulate_spectra(n, seed=seed, correlations=False), errors=False))
    others = simulate_spectra(max(ALONE, n // 2), seed=seed + 1, correlations=False)
    instrument = load_instrument()
    photometry = Table(
        {
            f"phot_{band}_mean_flux": getattr(others, band).coefficients
            @ getattr(instrument, band).integral
            for band in BANDS
        }
    )
    measure_detection(sample_spectra(others, errors=False), photometry)
    for path in arguments.real:
        measure_real(path)


if __name__ == "__main__":
    main()
