"""The commands ``crossmatch``, ``enrich``, ``inspect``, ``show`` and ``send``: users' catalogues.

The first two add columns, the next two draw the objects, the last hands a table to other programs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gaia_redshift.cli.archive import add_archive, list_archive_sources, make_archive_options
from gaia_redshift.cli.options import (
    Command,
    add,
    add_option,
    parse_bits,
    parse_columns,
    parse_keep,
    parse_names,
    read_prior,
    take,
)
from gaia_redshift.cli.output import complain, open_output, say
from gaia_redshift.errors import InputError

__all__ = ["CROSSMATCH", "ENRICH", "INSPECT", "SEND", "SHOW"]


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
        complain(
            f"{found.n_failed} spectra could not be fetched: the same command with --overwrite asks"
            " for these alone"
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


def _declare_inspect(parser: argparse.ArgumentParser) -> None:
    add(parser, "--output", required=True, help="the page to write, .html")
    _declare_objects(parser)
    add_option(
        parser,
        "--simulated N",
        "simulated galaxies of which the nearest is shown (3000); 0 leaves it out",
        type=int,
        default=3000,
    )


def _declare_show(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        "--output",
        help="write the figure, .png, .pdf or .svg (without it a window shows it)",
    )
    _declare_objects(parser)


def _declare_objects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files of XP spectra, as for `predict`, and source ids to choose; ids alone are"
        " fetched",
    )
    add(parser, "--overwrite")
    add(
        parser,
        "--keep",
        help="columns of INPUT or of the table of --ids to show, separated by commas, or `all`",
    )
    add(parser, "--clean")
    add_option(parser, "--limit N", "only the first N objects", type=int)
    add(parser, "--model", "--prior", "--any-release")
    add_archive(
        parser, help="only these sources: ids, one a line, or a table with a column source_id"
    )


def _run_inspect(arguments: argparse.Namespace) -> int:
    from gaia_redshift.inspect.page import check_page, inspect_spectra

    check_page(arguments.output, overwrite=arguments.overwrite)
    options = _choose(arguments)
    path = inspect_spectra(output=arguments.output, n_simulated=arguments.simulated, **options)
    size = path.stat().st_size / 1e6
    say(arguments, f"page: {path} ({size:.1f} MB); open it in a browser")
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    from gaia_redshift.plot.source import show_sources

    n = show_sources(output=arguments.output, **_choose(arguments))
    if arguments.output:
        pages = f" ({n} pages)" if n > 1 else ""
        say(arguments, f"figure: {arguments.output}{pages}")
    return 0


def _choose(arguments: argparse.Namespace) -> dict[str, Any]:
    """Turn the arguments into those of `gaia_redshift.inspect.gather_objects`."""
    to_fetch, found = list_archive_sources(arguments)
    ids: Any = None
    sources: Any = found
    if found:
        if arguments.adql:
            raise InputError("--adql fetches spectra: give it without files")
        if len(to_fetch) > 1:
            from gaia_redshift.inspect.content import take_ids

            ids = [one for each in to_fetch for one in take_ids(each)[0]]
        elif to_fetch:
            ids = to_fetch[0]  # as it is: a table may have columns to show
    elif len(to_fetch) == 1:
        sources = to_fetch[0]
    elif to_fetch:
        raise InputError("give ids, one --ids FILE or one --adql QUERY, or files of spectra")
    else:
        raise InputError("give files of spectra, source ids, --ids FILE or --adql QUERY")
    return {
        "sources": sources,
        "ids": ids,
        "columns": parse_keep(arguments.keep),
        "prior": read_prior(arguments.prior),
        "archive": make_archive_options(arguments),
        **take(arguments, "clean limit model any_release overwrite progress"),
    }


INSPECT = Command(
    "inspect",
    "make a page to look at spectra and redshifts",
    _declare_inspect,
    _run_inspect,
    """examples:
  gaia-redshift inspect galaxies.parquet -o vi.html
  gaia-redshift inspect galaxies.parquet --ids chosen.ecsv --keep ra,dec -o vi.html
  gaia-redshift inspect galaxies.parquet --clean --limit 200 -o vi.html
  gaia-redshift inspect 5937083312263887616 -o one.html
  gaia-redshift dataset galaxies.parquet --ids vi_inspected.csv --truth redshift_vi -o t.parquet

The page is one file without any other and without network: spectra with lines at a redshift that a
slider moves, distributions, flags in words, the nearest simulated galaxy. Keys go through the
objects (? names them). What is entered is exported there, as csv or ECSV with the columns
redshift_vi, class_vi and comment_vi.""",
)
SHOW = Command(
    "show",
    "draw objects: spectrum, distribution, flags",
    _declare_show,
    _run_show,
    """examples:
  gaia-redshift show galaxies.parquet 5937083312263887616 -o one.pdf
  gaia-redshift show 5937083312263887616 -o one.png             fetched from the Gaia archive
  gaia-redshift show galaxies.parquet --ids chosen.ecsv -o pages.pdf

One figure an object: spectrum with lines, distribution, flags. A .pdf may have many pages.""",
)


def _declare_send(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help=".ecsv, .fits, .vot, .parquet, ...")
    add_option(parser, "--to PROGRAM", "this program alone, such as topcat")
    add_option(parser, "--name NAME", "what the table is called there (default: the file's name)")


def _run_send(arguments: argparse.Namespace) -> int:
    from gaia_redshift.bridges.messages import send_table
    from gaia_redshift.readers.files import read_table

    path = Path(arguments.table)
    if not path.exists():
        raise InputError(f"{arguments.table}: no such file")
    table = read_table(path)
    taken = send_table(table, recipient=arguments.to, name=arguments.name or path.name)
    say(arguments, f"{len(table):,} rows sent to {', '.join(taken)}")
    return 0


SEND = Command(
    "send",
    "send a table to TOPCAT or other programs (SAMP)",
    _declare_send,
    _run_send,
    """examples:
  gaia-redshift send redshifts.ecsv
  gaia-redshift send redshifts.fits --to topcat --name "my galaxies"

TOPCAT, or another program with a SAMP hub, must run on this machine.""",
)
