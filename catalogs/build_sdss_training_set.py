"""Build the training set of real galaxies: SDSS redshifts x Gaia ids x XP spectra.

    python catalogs/build_sdss_training_set.py -o sdss.parquet --release DR3

asks the Gaia archive for galaxies with public XP spectra (all of them, or those in --cone), CDS for
their SDSS redshifts, and the archive for the spectra; cuts as in Kiraleos (2023); splits by region
of the sky. After an interruption the same command goes on. Where there is no table of galaxies yet
(Gaia DR4), give your own query or table: --sources. To see what comes out without network:

    python catalogs/build_sdss_training_set.py --demo -o demo.parquet

builds one from the demo catalogue, whose galaxies are simulated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gaia_redshift.archive import build_query
from gaia_redshift.datasets import SkySplit, TrainingCuts, build_training_set, describe_manifest
from gaia_redshift.errors import GaiaRedshiftError

DEMO = Path(__file__).parent / "demo_galaxies.parquet"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", required=True, help="the training set (.parquet)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--demo", action="store_true", help="simulated galaxies, no network")
    parser.add_argument("--sources", metavar="FILE|ADQL", help="source_id, ra, dec, photometry")
    parser.add_argument(
        "--cone", nargs=3, type=float, metavar=("RA", "DEC", "RADIUS"), help="degrees"
    )
    parser.add_argument("--release", default="DR3", help="Gaia data release (DR3)")
    parser.add_argument(
        "--spectra", nargs="+", metavar="FILE", help="bulk files of XP spectra (else fetched)"
    )
    parser.add_argument("--catalogue", metavar="PATH", help="SDSS redshifts at hand (else by CDS)")
    parser.add_argument("--survey", default="sdss", help="of the catalogue: sdss or desi")
    parser.add_argument("--redshift-max", type=float, default=0.6, metavar="Z", help="(0.6)")
    parser.add_argument("--magnitude-max", type=float, metavar="G", help="faintest G")
    parser.add_argument("--seed", type=int, default=1, help="of the split (1)")
    parser.add_argument("--level", type=int, default=5, help="HEALPix level of the regions (5)")
    parser.add_argument("--coefficients", action="store_true", help="keep the coefficients too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    arguments = build_parser().parse_args(argv)
    faintest = arguments.magnitude_max
    cuts = TrainingCuts(
        redshift_range=(0.0, arguments.redshift_max),
        magnitude=None if faintest is None else (0.0, faintest),
    )
    options: dict[str, Any] = {
        "cuts": cuts,
        "split": SkySplit(seed=arguments.seed, healpix_order=arguments.level),
        "coefficients": arguments.coefficients,
        "overwrite": arguments.overwrite,
        "progress": sys.stderr.isatty(),
    }
    try:
        if arguments.demo:
            options |= {"spectra": DEMO, "truth": "redshift_true"}
        else:
            cone = tuple(arguments.cone) if arguments.cone else None
            options |= {
                "spectra": arguments.spectra or "archive",
                "sources": arguments.sources
                or build_query("ugc_galaxies", cone=cone, pure=False, release=arguments.release),
                "catalogue": arguments.catalogue,
                "survey": arguments.survey,
                "release": arguments.release,
            }
        manifest = build_training_set(arguments.output, **options)
    except GaiaRedshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe_manifest(manifest))
    print(f"training set: {arguments.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
