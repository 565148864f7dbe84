"""The command ``crossmatch``: spectroscopic redshifts beside the sources of a table."""

from __future__ import annotations

import argparse
import sys

from gaia_redshift.cli.options import add_overwrite, parse_bits, parse_columns, parse_names
from gaia_redshift.cli.output import add_format, open_output
from gaia_redshift.errors import InputError

__all__ = ["CROSSMATCH_EPILOG", "add_crossmatch", "run_crossmatch"]

CROSSMATCH_EPILOG = """examples:
  gaia-redshift crossmatch redshifts.ecsv -o with_sdss.ecsv
  gaia-redshift crossmatch redshifts.ecsv --service tapvizier --classes GALAXY,QSO -o both.fits
  gaia-redshift crossmatch redshifts.ecsv --catalogue zall-pix-iron.fits --survey desi -o desi.ecsv
  gaia-redshift crossmatch galaxies.csv --catalogue 2mrs.csv --survey mrs \\
      --columns ra=RAdeg,dec=DEdeg,redshift=zsp --classes any --zwarning any -o mrs.ecsv

The table needs positions in degrees (keep them: predict --keep ra,dec). New columns, for SDSS:
redshift_sdss, redshift_sdss_error, zwarning_sdss, class_sdss, id_sdss, separation_sdss and
match_flag_sdss, whose bits are 1 ambiguous, 2 nearer to another source, 4 no spectrum, 8 rejected
by class or zWarning, 16 spectra disagree, 32 no position."""


def add_crossmatch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("table", metavar="TABLE", help="with positions: .ecsv, .fits, .vot, ...")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="write the table with new columns"
    )
    add_format(parser)
    add_overwrite(parser)
    parser.add_argument(
        "--radius", type=float, default=1.0, metavar="ARCSEC", help="largest distance (1)"
    )
    parser.add_argument(
        "--service",
        choices=["xmatch", "tapvizier", "skyserver"],
        help="where to look for SDSS: CDS XMatch (the default), TAPVizieR or SkyServer",
    )
    parser.add_argument(
        "--catalogue",
        metavar="PATH",
        help="a catalogue at hand instead: FITS, Parquet, csv, ..., a folder of Parquet or HATS",
    )
    parser.add_argument(
        "--survey",
        metavar="NAME",
        help="of the catalogue: sdss (the default) or desi, or any name with --columns; the new"
        " columns end in it",
    )
    parser.add_argument(
        "--columns",
        metavar="WHAT=NAME,...",
        help="the catalogue's columns: ra, dec, redshift, redshift_error, zwarning, class, id,"
        " primary",
    )
    parser.add_argument(
        "--classes", default="GALAXY", metavar="NAMES", help="spectra wanted (GALAXY), or `any`"
    )
    parser.add_argument(
        "--zwarning", default="0", metavar="BITS", help="zWarning bits accepted (0), or `any`"
    )
    parser.add_argument("--ra", metavar="NAME", help="column of right ascension in TABLE (ra)")
    parser.add_argument("--dec", metavar="NAME", help="column of declination in TABLE (dec)")


def run_crossmatch(arguments: argparse.Namespace, *, progress: bool = False) -> int:
    """Cross-match and write the table; return the exit code."""
    with open_output(arguments):
        return _run(arguments, progress)


def _run(arguments: argparse.Namespace, progress: bool) -> int:
    from gaia_redshift.crossmatch import crossmatch_catalogue, crossmatch_sdss
    from gaia_redshift.crossmatch.table import summarise_matches
    from gaia_redshift.tables import check_output, write_table

    check_output(arguments.output, overwrite=arguments.overwrite)
    options = {
        "zwarning": parse_bits(arguments.zwarning),
        "classes": parse_names(arguments.classes),
        "ra": arguments.ra,
        "dec": arguments.dec,
    }
    survey = arguments.survey or "sdss"
    if arguments.catalogue:
        if arguments.service:
            raise InputError("--service and --catalogue do not go together")
        table = crossmatch_catalogue(
            arguments.table,
            arguments.catalogue,
            arguments.radius,
            survey=survey,
            columns=parse_columns(arguments.columns),
            **options,
        )
    else:
        if arguments.columns or survey != "sdss":
            raise InputError("--survey and --columns go with --catalogue")
        table = crossmatch_sdss(
            arguments.table,
            arguments.radius,
            service=arguments.service or "xmatch",
            progress=progress,
            **options,
        )
    write_table(table, arguments.output, overwrite=arguments.overwrite)
    if not arguments.quiet:
        words = f"{summarise_matches(table, survey)}: {arguments.output}"
        print(words, file=sys.stderr if arguments.piped else sys.stdout)
    return 0
