"""Make the demo catalogue: 500 simulated galaxies in the archive's form, with their true redshifts.

    python catalogs/make_demo_catalogue.py [-o catalogs/demo_galaxies.parquet]

The galaxies are simulated, none was observed; their source_ids (7e18 and above) lie outside the
range of real ones. To keep the file below 3 MB the correlations are rounded to three decimals,
which changes flux errors by less than 0.1 %.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from gaia_redshift import simulate_spectra, write_spectra

N_GALAXIES, SEED = 500, 2026


def make_demo_catalogue(path: Path) -> None:
    """Simulate the galaxies and write them to ``path``."""
    spectra = simulate_spectra(N_GALAXIES, seed=SEED, survey="sdss")
    bands = {
        name: replace(
            band,
            errors=band.errors.astype(np.float32),
            correlations=np.round(band.correlations, 3),
        )
        for name, band in (("bp", spectra.bp), ("rp", spectra.rp))
    }
    write_spectra(replace(spectra, **bands), path, overwrite=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent / "demo_galaxies.parquet"
    )
    make_demo_catalogue(parser.parse_args().output)
