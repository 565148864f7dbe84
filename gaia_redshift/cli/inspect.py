"""The commands ``inspect`` and ``show``: pages and figures to look at spectra."""

from __future__ import annotations

import argparse
from typing import Any

from gaia_redshift.cli.archive import (
    add_archive_options,
    list_archive_sources,
    make_archive_options,
)
from gaia_redshift.cli.options import add_clean, add_overwrite, parse_keep
from gaia_redshift.cli.prior import add_prior, read_prior
from gaia_redshift.errors import InputError

__all__ = [
    "INSPECT_EPILOG",
    "SHOW_EPILOG",
    "add_inspect",
    "add_show",
    "run_inspect",
    "run_show",
]

INSPECT_EPILOG = """examples:
  gaia-redshift inspect galaxies.parquet -o vi.html
  gaia-redshift inspect galaxies.parquet --ids chosen.ecsv --keep ra,dec -o vi.html
  gaia-redshift inspect galaxies.parquet --clean --limit 200 -o vi.html
  gaia-redshift inspect 5937083312263887616 -o one.html
  gaia-redshift dataset galaxies.parquet --ids vi_inspected.csv --truth redshift_vi -o t.parquet

The page is one file without any other and without network: spectra with lines at a redshift that a
slider moves, distributions, flags in words, the nearest simulated galaxy. Keys go through the
objects (? names them). What is entered is exported there, as csv or ECSV with the columns
redshift_vi, class_vi and comment_vi."""

SHOW_EPILOG = """examples:
  gaia-redshift show galaxies.parquet 5937083312263887616 -o one.pdf
  gaia-redshift show 5937083312263887616 -o one.png             fetched from the Gaia archive
  gaia-redshift show galaxies.parquet --ids chosen.ecsv -o pages.pdf

One figure an object: spectrum with lines, distribution, flags. A .pdf may have many pages."""


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="files of XP spectra, as for `predict`, and source ids to choose; ids alone are"
        " fetched",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--keep",
        action="append",
        metavar="COLUMNS",
        help="columns of INPUT or of the table of --ids to show, separated by commas, or `all`",
    )
    add_clean(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N objects")
    parser.add_argument("--model", default="default", help="name or folder (see `models`)")
    add_prior(parser)
    parser.add_argument(
        "--any-release", action="store_true", help="take spectra of another data release, too"
    )


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``inspect``."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the page to write, .html"
    )
    _add_common(parser)
    parser.add_argument(
        "--simulated",
        type=int,
        default=3000,
        metavar="N",
        help="simulated galaxies of which the nearest is shown (3000); 0 leaves it out",
    )
    add_archive_options(parser, ids=_IDS)


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``show``."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the figure, .png, .pdf or .svg (without it a window shows it)",
    )
    _add_common(parser)
    add_archive_options(parser, ids=_IDS)


_IDS = "only these sources: ids, one a line, or a table with a column source_id"


def run_inspect(arguments: argparse.Namespace, *, progress: bool) -> int:
    """Write the page; return the exit code."""
    from gaia_redshift.inspect.page import check_page, inspect_spectra

    check_page(arguments.output, overwrite=arguments.overwrite)
    path = inspect_spectra(
        output=arguments.output,
        overwrite=arguments.overwrite,
        n_simulated=arguments.simulated,
        progress=progress,
        **_choose(arguments),
    )
    if not arguments.quiet:
        print(f"page: {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser")
    return 0


def run_show(arguments: argparse.Namespace, *, progress: bool) -> int:
    """Write or show the figure; return the exit code."""
    from gaia_redshift.plot.source import show_sources

    n = show_sources(
        output=arguments.output,
        overwrite=arguments.overwrite,
        progress=progress,
        **_choose(arguments),
    )
    if arguments.output and not arguments.quiet:
        pages = f" ({n} pages)" if n > 1 else ""
        print(f"figure: {arguments.output}{pages}")
    return 0


def _choose(arguments: argparse.Namespace) -> dict[str, Any]:
    """Turn the arguments into those of `gaia_redshift.inspect.gather_objects`."""
    to_fetch, found = list_archive_sources(arguments)
    ids: Any = None
    sources: Any = found
    if found:
        if arguments.adql:
            raise InputError("--adql fetches spectra: give it without files")
        ids = _join_ids(to_fetch)
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
        "clean": arguments.clean,
        "limit": arguments.limit,
        "model": arguments.model,
        "prior": read_prior(arguments.prior),
        "any_release": arguments.any_release,
        "archive": make_archive_options(arguments),
    }


def _join_ids(chosen: list[Any]) -> Any:
    """Return ids, or the one table of such; None where none are given."""
    if len(chosen) < 2:
        return chosen[0] if chosen else None
    ids: list[int] = []
    for one in chosen:
        names = {name.lower(): name for name in getattr(one, "colnames", [])}
        if names and "source_id" not in names:
            raise InputError("a table of ids needs a column source_id")
        ids += [int(i) for i in (one[names["source_id"]] if names else one)]
    return ids
