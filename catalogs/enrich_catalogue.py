r"""Add redshifts and flags to a catalogue of your own: csv, ECSV, FITS, VOTable or Parquet.

    python catalogs/enrich_catalogue.py mine.fits -o mine_with_redshifts.fits
    python catalogs/enrich_catalogue.py mine.csv --spectra xp_folder/ -o enriched.csv

The catalogue needs Gaia source ids (or positions, where spectra come from the archive). Rows, their
order, columns, units and metadata stay; the new columns come last. The output has the catalogue's
format. To try it without network:

    python catalogs/enrich_catalogue.py catalogs/demo_galaxies.parquet \
        --spectra catalogs/demo_galaxies.parquet -o enriched.parquet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gaia_redshift.cli.archive import make_archive_options
from gaia_redshift.enrich import enrich_catalogue
from gaia_redshift.errors import GaiaRedshiftError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("catalogue", help="with source ids, or with positions in degrees")
    parser.add_argument("-o", "--output", required=True, help="a file of the same format")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--spectra", nargs="+", metavar="FILE", help="files or folders of XP spectra (else fetched)"
    )
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--source-id", metavar="COLUMN", help="column of source ids")
    parser.add_argument("--ra", metavar="COLUMN", help="column of right ascension (deg)")
    parser.add_argument("--dec", metavar="COLUMN", help="column of declination (deg)")
    parser.add_argument("--suffix", default="", help="put behind the names of the new columns")
    parser.add_argument("--prior", help="redshift distribution to assume, such as `flat`")
    parser.add_argument("--std", action="store_true", help="add standard deviations")
    parser.add_argument("--any-release", action="store_true", help="whatever the data release")
    archive = parser.add_argument_group("from the Gaia archive")
    archive.add_argument("--release", default="DR3", help="data release of the ids (DR3)")
    archive.add_argument("--radius", type=float, default=1.0, metavar="ARCSEC")
    archive.add_argument("--offline", action="store_true", help="use what was fetched before")
    archive.add_argument("--no-cache", action="store_true", help="keep nothing of what is fetched")
    archive.add_argument("--cache-dir", metavar="DIR", help="keep it in this folder")
    archive.add_argument("--login", metavar="USER|FILE", help="log in")
    parser.set_defaults(from_dr3=False, mirror=None)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code: 1 also where spectra failed to come."""
    arguments = build_parser().parse_args(argv)
    try:
        found = enrich_catalogue(
            arguments.catalogue,
            arguments.output,
            spectra=arguments.spectra or "archive",
            model=arguments.model,
            source_id=arguments.source_id,
            ra=arguments.ra,
            dec=arguments.dec,
            suffix=arguments.suffix,
            prior=arguments.prior,
            std=arguments.std,
            archive=make_archive_options(arguments),
            any_release=arguments.any_release,
            overwrite=arguments.overwrite,
            progress=sys.stderr.isatty(),
        )
    except GaiaRedshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{found.summary()}: {found.output}")
    if found.n_failed:
        print(
            f"{found.n_failed} spectra could not be fetched: the same command with --overwrite asks"
            " for these alone",
            file=sys.stderr,
        )
    return 1 if found.n_failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
