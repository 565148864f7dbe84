"""The command ``enrich``: redshifts beside the rows of a user's catalogue."""

from __future__ import annotations

import argparse
import sys

from gaia_redshift.cli.archive import add_archive_options, make_archive_options
from gaia_redshift.cli.options import add_overwrite
from gaia_redshift.cli.prior import add_prior, read_prior

__all__ = ["ENRICH_EPILOG", "add_enrich", "run_enrich"]

ENRICH_EPILOG = """examples:
  gaia-redshift enrich mine.fits -o mine_with_redshifts.fits
  gaia-redshift enrich mine.csv --spectra xp_folder/ -o enriched.csv

The catalogue is csv, ECSV, FITS, VOTable (each also with .gz) or Parquet, and needs Gaia source
ids, or positions where spectra come from the archive. Rows, their order, columns, units and
metadata stay; the new columns come last, and the output has the catalogue's format. The exit code
is 1 if spectra could not be fetched."""


def add_enrich(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "catalogue", metavar="CATALOGUE", help="with source ids, or with positions in degrees"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="a file of the same format"
    )
    add_overwrite(parser)
    parser.add_argument(
        "--spectra", nargs="+", metavar="FILE", help="files or folders of XP spectra (else fetched)"
    )
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--source-id", metavar="COLUMN", help="column of source ids")
    parser.add_argument("--ra", metavar="COLUMN", help="column of right ascension (deg)")
    parser.add_argument("--dec", metavar="COLUMN", help="column of declination (deg)")
    parser.add_argument(
        "--suffix", default="", metavar="WORD", help="put behind the names of the new columns"
    )
    add_prior(parser)
    parser.add_argument("--std", action="store_true", help="add standard deviations")
    parser.add_argument("--any-release", action="store_true", help="whatever the data release")
    add_archive_options(parser, ids=None)


def run_enrich(arguments: argparse.Namespace, *, progress: bool = False) -> int:
    """Write the catalogue with redshifts; return the exit code."""
    from gaia_redshift.enrich import enrich_catalogue

    found = enrich_catalogue(
        arguments.catalogue,
        arguments.output,
        spectra=arguments.spectra or "archive",
        model=arguments.model,
        source_id=arguments.source_id,
        ra=arguments.ra,
        dec=arguments.dec,
        suffix=arguments.suffix,
        prior=read_prior(arguments.prior),
        std=arguments.std,
        archive=make_archive_options(arguments),
        any_release=arguments.any_release,
        overwrite=arguments.overwrite,
        progress=progress,
    )
    if not arguments.quiet:
        print(f"{found.summary()}: {found.output}")
    if found.n_failed:
        print(
            f"gaia-redshift: {found.n_failed} spectra could not be fetched: the same command with"
            " --overwrite asks for these alone",
            file=sys.stderr,
        )
    return 1 if found.n_failed else 0
