"""The commands ``inspect``, ``show`` and ``send``: to look at spectra and redshifts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gaia_redshift.cli.archive import add_archive, list_archive_sources, make_archive_options
from gaia_redshift.cli.options import Command, add, add_option, parse_keep, read_prior, take
from gaia_redshift.cli.output import say
from gaia_redshift.errors import InputError

__all__ = ["INSPECT", "SEND", "SHOW"]


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
