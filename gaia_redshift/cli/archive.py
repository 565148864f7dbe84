"""The commands ``fetch``, ``cache`` and ``doctor``, and what all that fetch have in common."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift.cli.options import Command, UsageError, add, add_option, parse_keep
from gaia_redshift.cli.output import complain, say
from gaia_redshift.errors import InputError

__all__ = [
    "CACHE",
    "DOCTOR",
    "FETCH",
    "add_archive",
    "list_archive_sources",
    "make_archive_options",
]


def add_archive(parser: argparse.ArgumentParser, *, by_ids: bool = True, **ids: Any) -> None:
    """Add what commands that fetch have; ``ids`` changes the option --ids, where that is wanted."""
    group = parser.add_argument_group("from the Gaia archive")
    if by_ids:
        add(group, "--ids", **ids)
        add_option(
            group,
            "--adql QUERY",
            "a query whose result has a column source_id; @FILE reads it from a file",
            action="append",
        )
        add_option(
            group,
            "--from-dr3",
            "the ids are DR3's: bring them over to --release by its table of neighbours",
        )
    parser.set_defaults(from_dr3=False)
    add(group, "--release")
    add_option(
        group,
        "--mirror NAME|URL",
        "take spectra from a mirror's table: aip, ari, or a TAP service's address (#TABLE)",
    )
    add(group, "--radius", help="how far from a position its Gaia source may be (1)")
    add_option(group, "--offline", "use what has been fetched before, ask nothing")
    add_option(group, "--no-cache", "keep nothing of what is fetched")
    add(group, "--cache-dir", "--login")


def list_archive_sources(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Return what to fetch (ids, tables of ids, queries), and the inputs that are files."""
    from gaia_redshift.readers.files import read_ids
    from gaia_redshift.readers.sources import is_for_archive, is_id

    files = [name for name in arguments.inputs if not is_for_archive(name)]
    fetched = [name for name in arguments.inputs if is_for_archive(name)]
    ids = [int(name) for name in fetched if is_id(name)]
    sources: list[Any] = [ids] if ids else []
    sources += [name for name in fetched if not is_id(name)]
    sources += [read_ids(name) for name in arguments.ids or []]
    sources += [_read_query(query) for query in arguments.adql or []]
    return sources, files


def _read_query(query: str) -> str:
    from gaia_redshift.readers.sources import is_query

    if query.startswith("@"):
        try:
            query = Path(query[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{query[1:]}: cannot be read: {error}") from error
    if not is_query(query):
        raise InputError(f"a query begins with SELECT, not '{query.strip()[:40]}'")
    return query


def make_archive_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `gaia_redshift.fetch_spectra`."""
    if arguments.no_cache and (arguments.cache_dir or arguments.offline):
        raise InputError("--no-cache goes neither with --cache-dir nor with --offline")
    more: dict[str, Any] = {"from_dr3": True} if arguments.from_dr3 else {}
    if arguments.mirror:
        from gaia_redshift.archive.settings import use_mirror

        more["settings"] = use_mirror(arguments.mirror)
    return {
        **more,
        "release": arguments.release,
        "radius": arguments.radius,
        "offline": arguments.offline,
        "cache": False if arguments.no_cache else arguments.cache_dir or True,
        "login": arguments.login,
    }


def _declare_fetch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="*", metavar="SOURCE_ID", help="source ids, or a query")
    add(
        parser,
        "--output",
        required=True,
        help="write the spectra: .parquet, .fits, .csv, .ecsv, .vot, .h5",
    )
    add(parser, "--overwrite")
    add(parser, "--keep", help="columns to carry along, or `all`")
    add_option(parser, "--account FILE", "write what became of each source: .csv, .ecsv, .fits")
    add_archive(parser)


def _run_fetch(arguments: argparse.Namespace) -> int:
    from gaia_redshift.archive.account import FetchAccount, FetchStatus
    from gaia_redshift.archive.fetch import open_stream
    from gaia_redshift.spectra import XPSpectra
    from gaia_redshift.tables import check_output, write_table
    from gaia_redshift.writers import SpectraWriter

    if not (arguments.inputs or arguments.ids or arguments.adql):
        raise UsageError("give source ids, --ids FILE or --adql QUERY (fetch --help)")
    if arguments.account:
        check_output(arguments.account, overwrite=arguments.overwrite)
    sources, others = list_archive_sources(arguments)
    if others:
        raise InputError(f"'{others[0]}' is no source_id; a file of ids is given with --ids")
    options = make_archive_options(arguments)
    options |= {"keep": parse_keep(arguments.keep), "progress": arguments.progress}
    accounts: list[FetchAccount] = []
    with SpectraWriter(arguments.output, overwrite=arguments.overwrite) as writer:
        waiting = []
        for source in sources:
            stream = open_stream(source, **options)
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
    account = FetchAccount(
        source_id=np.concatenate([one.source_id for one in accounts]),
        status=np.concatenate([one.status for one in accounts]),
        reasons={k: v for one in accounts for k, v in one.reasons.items()},
    )
    if arguments.account:
        write_table(account.to_table(), arguments.account, overwrite=arguments.overwrite)
    say(arguments, f"{account.summary()}: {arguments.output}")
    lost = int(np.isin(account.status, (FetchStatus.PENDING, FetchStatus.FAILED)).sum())
    if lost:
        complain(f"{lost} sources could not be fetched: the same command asks for them again")
    return 1 if lost else 0


FETCH = Command(
    "fetch",
    "fetch XP spectra from the Gaia archive",
    _declare_fetch,
    _run_fetch,
    """examples:
  gaia-redshift fetch 5937083312263887616 -o one.fits
  gaia-redshift fetch --ids ids.csv -o spectra.parquet --account account.csv
  gaia-redshift fetch --adql @galaxies.adql --keep redshift_ugc -o spectra.parquet

What is fetched is kept: after an interruption the same command goes on where it was. The exit code
is 1 if some sources failed; the same command then asks for these alone.""",
)


def _declare_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["info", "path", "clear"], nargs="?", default="info")
    add(parser, "--cache-dir", help="another folder than the usual one")


def _run_cache(arguments: argparse.Namespace) -> int:
    from gaia_redshift.archive.cache import find_limit, list_cache_folders
    from gaia_redshift.archive.settings import find_cache_root

    cache = arguments.cache_dir or True
    if arguments.action == "path":
        print(find_cache_root(cache))
        return 0
    folders = list_cache_folders(cache)
    if arguments.action == "clear":
        freed = sum(folder.n_bytes for folder in folders)
        for folder in folders:
            folder.clear()
        say(arguments, f"removed {freed / 1e6:,.1f} MB from {find_cache_root(cache)}")
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


CACHE = Command(
    "cache",
    "show, name or clear what has been fetched",
    _declare_cache,
    _run_cache,
    """examples:
  gaia-redshift cache info
  gaia-redshift cache clear""",
)


def _declare_doctor(parser: argparse.ArgumentParser) -> None:
    add(parser, "--release", help="data release to look for (DR3)")
    add_option(
        parser,
        "--server URL",
        "another server in the manner of the Gaia archive (https://gea.esac.esa.int)",
    )
    add_option(parser, "--source-id ID", "the source to fetch", type=int)
    add(parser, "--model", default=None, metavar="NAME|DIR", help="the model to try")
    add(parser, "--login", help="log in, as fetch does")
    add(parser, "--json", help="print all that was found as JSON")


def _run_doctor(arguments: argparse.Namespace) -> int:
    from gaia_redshift.archive.settings import ArchiveSettings
    from gaia_redshift.doctor import examine

    addresses: dict[str, Any] = {}
    if arguments.server:
        base = arguments.server.rstrip("/")
        addresses = {
            "gaia_tap_url": f"{base}/tap-server/tap",
            "gaia_data_url": f"{base}/data-server/data",
        }
    found = examine(
        arguments.release,
        source_id=arguments.source_id,
        model=arguments.model,
        settings=ArchiveSettings(**addresses),
        login=arguments.login,
    )
    print(json.dumps(found.to_dict(), indent=1) if arguments.json else found)
    return 0 if found.ok else 1


DOCTOR = Command(
    "doctor",
    "try all that a prediction from the archive needs",
    _declare_doctor,
    _run_doctor,
    """examples:
  gaia-redshift doctor
  gaia-redshift doctor --release DR4
  gaia-redshift doctor --json > for_the_bug_report.json

The exit code is 0 if a redshift came out, else 1. It asks the archive anew for its words and
tables, which other commands remember.""",
)
