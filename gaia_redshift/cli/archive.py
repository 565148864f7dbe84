"""The commands that use the Gaia archive: ``fetch``, ``cache``, and ``predict`` by ids or ADQL."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift.cli.options import add_overwrite
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag

__all__ = [
    "CACHE_EPILOG",
    "FETCH_EPILOG",
    "add_archive_options",
    "add_cache",
    "add_fetch",
    "list_archive_sources",
    "make_archive_options",
    "run_cache",
    "run_fetch",
]

FETCH_EPILOG = """examples:
  gaia-redshift fetch 5937083312263887616 -o one.fits
  gaia-redshift fetch --ids ids.csv -o spectra.parquet --account account.csv
  gaia-redshift fetch --adql @galaxies.adql --keep redshift_ugc -o spectra.parquet

What is fetched is kept: after an interruption the same command goes on where it was. The exit code
is 1 if some sources failed; the same command then asks for these alone."""

CACHE_EPILOG = """examples:
  gaia-redshift cache info
  gaia-redshift cache clear"""


def add_archive_options(
    parser: argparse.ArgumentParser,
    ids: str
    | None = "source ids: one a line, or a table with a column source_id (or with ra and dec)",
) -> None:
    """Add what commands that fetch have in common; without ``ids``, these come from elsewhere."""
    group = parser.add_argument_group("from the Gaia archive")
    if ids is not None:
        group.add_argument("--ids", action="append", metavar="FILE", help=ids)
        group.add_argument(
            "--adql",
            action="append",
            metavar="QUERY",
            help="a query whose result has a column source_id; @FILE reads it from a file",
        )
        group.add_argument(
            "--from-dr3",
            action="store_true",
            help="the ids are DR3's: bring them over to --release by its table of neighbours",
        )
    parser.set_defaults(from_dr3=False)
    group.add_argument("--release", default="DR3", help="data release of the ids (DR3)")
    group.add_argument(
        "--mirror",
        metavar="NAME|URL",
        help="take spectra from a mirror's table: aip, ari, or a TAP service's address (#TABLE)",
    )
    group.add_argument(
        "--radius",
        type=float,
        default=1.0,
        metavar="ARCSEC",
        help="how far from a position its Gaia source may be (1)",
    )
    group.add_argument(
        "--offline", action="store_true", help="use what has been fetched before, ask nothing"
    )
    group.add_argument("--no-cache", action="store_true", help="keep nothing of what is fetched")
    group.add_argument("--cache-dir", metavar="DIR", help="keep it in this folder")
    group.add_argument(
        "--login",
        metavar="USER|FILE",
        help="log in: a user name (password from the keyring, or asked for), or a file with user"
        " name and password in two lines",
    )


def add_fetch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fetch``."""
    parser.add_argument("inputs", nargs="*", metavar="SOURCE_ID", help="source ids, or a query")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="write the spectra: .parquet, .fits, .csv, .ecsv, .vot, .h5",
    )
    add_overwrite(parser)
    parser.add_argument(
        "--keep", action="append", metavar="COLUMNS", help="columns to carry along, or `all`"
    )
    parser.add_argument(
        "--account", metavar="FILE", help="write what became of each source: .csv, .ecsv, .fits"
    )
    add_archive_options(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``cache``."""
    parser.add_argument("action", choices=["info", "path", "clear"], nargs="?", default="info")
    parser.add_argument("--cache-dir", metavar="DIR", help="another folder than the usual one")


def list_archive_sources(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return what to fetch (ids, tables of ids, queries), and the inputs that are files.

    Raises `InputError` if a file of ids or of a query cannot be read.
    """
    from gaia_redshift.readers.ids import read_ids
    from gaia_redshift.readers.sources import is_for_archive, is_id

    files: list[str] = []
    ids: list[int] = []
    sources: list[Any] = []
    for name in arguments.inputs:
        if not is_for_archive(name):
            files.append(name)
        elif is_id(name):
            ids.append(int(name))
        else:
            sources.append(name)
    if ids:
        sources.insert(0, ids)
    sources += [read_ids(name) for name in arguments.ids or []]
    for query in arguments.adql or []:
        sources.append(_read_query(query))
    return sources, files


def _read_query(query: str) -> str:
    if query.startswith("@"):
        try:
            query = Path(query[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{query[1:]}: cannot be read: {error}") from error
    from gaia_redshift.readers.sources import is_query

    if not is_query(query):
        raise InputError(f"a query begins with SELECT, not '{query.strip()[:40]}'")
    return query


def make_archive_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `gaia_redshift.fetch_spectra`."""
    if arguments.no_cache and (arguments.cache_dir or arguments.offline):
        raise InputError("--no-cache goes neither with --cache-dir nor with --offline")
    more: dict[str, Any] = {"from_dr3": True} if arguments.from_dr3 else {}
    if arguments.mirror:
        from gaia_redshift.archive.mirror import use_mirror

        more["settings"] = use_mirror(arguments.mirror)
    return {
        **more,
        "release": arguments.release,
        "radius": arguments.radius,
        "offline": arguments.offline,
        "cache": False if arguments.no_cache else arguments.cache_dir or True,
        "login": arguments.login,
    }


def count_failed(flags: Any) -> int:
    """Return how many rows the archive did not deliver."""
    return int(((np.asarray(flags) & int(QualityFlag.FETCH_FAILED)) != 0).sum())


def run_fetch(
    arguments: argparse.Namespace, keep: list[str] | str | None, *, progress: bool
) -> int:
    """Fetch spectra and write them; return the number of rows that failed."""
    from gaia_redshift.archive.account import FetchAccount, FetchStatus
    from gaia_redshift.archive.fetch import open_stream
    from gaia_redshift.spectra import XPSpectra
    from gaia_redshift.tables import check_output, write_table
    from gaia_redshift.writers import SpectraWriter

    if arguments.account:
        check_output(arguments.account, overwrite=arguments.overwrite)
    sources, others = list_archive_sources(arguments)
    if others:
        raise InputError(f"'{others[0]}' is no source_id; a file of ids is given with --ids")
    options = make_archive_options(arguments)
    accounts: list[FetchAccount] = []
    with SpectraWriter(arguments.output, overwrite=arguments.overwrite) as writer:
        waiting = []
        for source in sources:
            stream = open_stream(source, keep=keep, progress=progress, **options)
            accounts.append(stream.account)
            for block in stream.blocks(stream.settings.chunk_size):
                # What is written first settles the file's columns: it must have spectra.
                has_any = bool(block.bp.n_coefficients.any() or block.rp.n_coefficients.any())
                waiting.append(block)
                if has_any or writer.n_written:
                    writer.write(XPSpectra.concatenate(waiting))
                    waiting.clear()
        if waiting:
            writer.write(XPSpectra.concatenate(waiting))
    account = _join_accounts(accounts)
    if arguments.account:
        write_table(account.to_table(), arguments.account, overwrite=arguments.overwrite)
    if not arguments.quiet:
        print(f"{account.summary()}: {arguments.output}")
    return int(np.isin(account.status, (FetchStatus.PENDING, FetchStatus.FAILED)).sum())


def _join_accounts(accounts: list[Any]) -> Any:
    from gaia_redshift.archive.account import FetchAccount

    return FetchAccount(
        source_id=np.concatenate([account.source_id for account in accounts]),
        status=np.concatenate([account.status for account in accounts]),
        reasons={k: v for account in accounts for k, v in account.reasons.items()},
    )


def run_cache(arguments: argparse.Namespace) -> int:
    """Show, name or clear the cache."""
    from gaia_redshift.archive.cache_folders import (
        find_cache_root,
        find_limit,
        list_cache_folders,
    )

    cache = arguments.cache_dir or True
    if arguments.action == "path":
        print(find_cache_root(cache))
        return 0
    folders = list_cache_folders(cache)
    if arguments.action == "clear":
        freed = sum(folder.n_bytes for folder in folders)
        for folder in folders:
            folder.clear()
        if not arguments.quiet:
            print(f"removed {freed / 1e6:,.1f} MB from {find_cache_root(cache)}")
        return 0
    print(f"folder  {find_cache_root(cache)}")
    print(f"limit   {find_limit() / 1e9:g} GB for each release and server")
    for folder in folders:
        print(
            f"{folder.path.name}: {folder.n_spectra:,} spectra, {folder.n_absent:,} sources known"
            f" to have none, {folder.n_bytes / 1e6:,.1f} MB"
        )
    if not folders:
        print("nothing is kept yet")
    sys.stdout.flush()
    return 0
