"""The commands ``crossmatch`` and ``enrich``: new columns beside the rows of a user's table."""

from __future__ import annotations

import argparse
import sys

from gaia_redshift.cli.archive import add_archive, make_archive_options
from gaia_redshift.cli.options import (
    Command,
    add,
    add_option,
    parse_bits,
    parse_columns,
    parse_names,
    read_prior,
    take,
)
from gaia_redshift.cli.output import PROGRAM, open_output, say
from gaia_redshift.errors import InputError

__all__ = ["CROSSMATCH", "ENRICH"]


def _declare_crossmatch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="with positions: .ecsv, .fits, .vot, ...")
    add(parser, "--output", required=True, help="write the table with new columns")
    add(parser, "--format", "--overwrite")
    add(parser, "--radius", help="largest distance (1)")
    add(parser, "--service")
    add(
        parser,
        "--catalogue",
        help="a catalogue at hand instead: FITS, Parquet, csv, ..., a folder of Parquet or HATS",
    )
    add_option(
        parser,
        "--survey NAME",
        "of the catalogue: sdss (the default) or desi, or any name with --columns; the new"
        " columns end in it",
    )
    add(parser, "--columns", "--classes", "--zwarning")
    add_option(parser, "--ra NAME", "column of right ascension in TABLE (ra)")
    add_option(parser, "--dec NAME", "column of declination in TABLE (dec)")


def _run_crossmatch(arguments: argparse.Namespace) -> int:
    with open_output(arguments):
        return _crossmatch(arguments)


def _crossmatch(arguments: argparse.Namespace) -> int:
    from gaia_redshift.crossmatch import crossmatch_catalogue, crossmatch_sdss
    from gaia_redshift.crossmatch.matching import summarise_matches
    from gaia_redshift.tables import check_output, write_table

    check_output(arguments.output, overwrite=arguments.overwrite)
    options = {
        "zwarning": parse_bits(arguments.zwarning),
        "classes": parse_names(arguments.classes),
        **take(arguments, "ra dec"),
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
            progress=arguments.progress,
            **options,
        )
    write_table(table, arguments.output, overwrite=arguments.overwrite)
    say(arguments, f"{summarise_matches(table, survey)}: {arguments.where}")
    return 0


CROSSMATCH = Command(
    "crossmatch",
    "find SDSS or other spectroscopic redshifts",
    _declare_crossmatch,
    _run_crossmatch,
    """examples:
  gaia-redshift crossmatch redshifts.ecsv -o with_sdss.ecsv
  gaia-redshift crossmatch redshifts.ecsv --service tapvizier --classes GALAXY,QSO -o both.fits
  gaia-redshift crossmatch redshifts.ecsv --catalogue zall-pix-iron.fits --survey desi -o desi.ecsv
  gaia-redshift crossmatch galaxies.csv --catalogue 2mrs.csv --survey mrs \\
      --columns ra=RAdeg,dec=DEdeg,redshift=zsp --classes any --zwarning any -o mrs.ecsv

The table needs positions in degrees (keep them: predict --keep ra,dec). New columns, for SDSS:
redshift_sdss, redshift_sdss_error, zwarning_sdss, class_sdss, id_sdss, separation_sdss and
match_flag_sdss, whose bits are 1 ambiguous, 2 nearer to another source, 4 no spectrum, 8 rejected
by class or zWarning, 16 spectra disagree, 32 no position.""",
)


def _declare_enrich(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "catalogue", metavar="CATALOGUE", help="with source ids, or with positions in degrees"
    )
    add(parser, "--output", required=True, help="a file of the same format")
    add(parser, "--overwrite")
    add_option(parser, "--spectra FILE", "files or folders of XP spectra (else fetched)", nargs="+")
    add(parser, "--model")
    add_option(parser, "--source-id COLUMN", "column of source ids")
    add_option(parser, "--ra COLUMN", "column of right ascension (deg)")
    add_option(parser, "--dec COLUMN", "column of declination (deg)")
    add_option(parser, "--suffix WORD", "put behind the names of the new columns", default="")
    add(parser, "--prior", "--std", "--any-release")
    add_archive(parser, by_ids=False)


def _run_enrich(arguments: argparse.Namespace) -> int:
    from gaia_redshift.enrich import enrich_catalogue

    found = enrich_catalogue(
        arguments.catalogue,
        arguments.output,
        spectra=arguments.spectra or "archive",
        prior=read_prior(arguments.prior),
        archive=make_archive_options(arguments),
        **take(arguments, "model source_id ra dec suffix std any_release overwrite progress"),
    )
    say(arguments, f"{found.summary()}: {found.output}")
    if found.n_failed:
        print(
            f"{PROGRAM}: {found.n_failed} spectra could not be fetched: the same command with"
            " --overwrite asks for these alone",
            file=sys.stderr,
        )
    return 1 if found.n_failed else 0


ENRICH = Command(
    "enrich",
    "add redshifts to a catalogue of your own",
    _declare_enrich,
    _run_enrich,
    """examples:
  gaia-redshift enrich mine.fits -o mine_with_redshifts.fits
  gaia-redshift enrich mine.csv --spectra xp_folder/ -o enriched.csv

The catalogue is csv, ECSV, FITS, VOTable (each also with .gz) or Parquet, and needs Gaia source
ids, or positions where spectra come from the archive. Rows, their order, columns, units and
metadata stay; the new columns come last, and the output has the catalogue's format. The exit code
is 1 if spectra could not be fetched.""",
)
