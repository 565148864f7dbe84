"""The command ``gaia-redshift doctor``."""

from __future__ import annotations

import argparse
import json
from typing import Any

__all__ = ["DOCTOR_EPILOG", "add_doctor", "run_doctor"]

DOCTOR_EPILOG = """examples:
  gaia-redshift doctor
  gaia-redshift doctor --release DR4
  gaia-redshift doctor --json > for_the_bug_report.json

The exit code is 0 if a redshift came out, else 1. It asks the archive anew for its words and
tables, which other commands remember."""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    parser.add_argument("--release", default="DR3", help="data release to look for (DR3)")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="another server in the manner of the Gaia archive (https://gea.esac.esa.int)",
    )
    parser.add_argument("--source-id", type=int, metavar="ID", help="the source to fetch")
    parser.add_argument("--model", metavar="NAME|DIR", help="the model to try")
    parser.add_argument("--login", metavar="USER|FILE", help="log in, as fetch does")
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON")


def run_doctor(arguments: argparse.Namespace) -> int:
    """Examine and tell; 0 if a redshift came out."""
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
