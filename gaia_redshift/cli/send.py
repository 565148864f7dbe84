"""The commands ``send`` and ``completion``: tables to TOPCAT, and words to the shell."""

from __future__ import annotations

import argparse

from gaia_redshift.errors import InputError

__all__ = ["COMPLETION_EPILOG", "SEND_EPILOG", "add_completion", "add_send", "run_send"]

SEND_EPILOG = """examples:
  gaia-redshift send redshifts.ecsv
  gaia-redshift send redshifts.fits --to topcat --name "my galaxies"

TOPCAT, or another program with a SAMP hub, must run on this machine."""

COMPLETION_EPILOG = """examples:
  gaia-redshift completion bash > ~/.local/share/bash-completion/completions/gaia-redshift
  gaia-redshift completion zsh > ~/.zfunc/_gaia-redshift      (a folder of $fpath)
  gaia-redshift completion tcsh > ~/.gaia-redshift.tcsh

A new shell then completes commands and options with the Tab key."""


def add_send(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``send``."""
    parser.add_argument("table", metavar="TABLE", help=".ecsv, .fits, .vot, .parquet, ...")
    parser.add_argument("--to", metavar="PROGRAM", help="this program alone, such as topcat")
    parser.add_argument("--name", help="what the table is called there (default: the file's name)")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``completion``."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


def run_send(arguments: argparse.Namespace) -> int:
    """Send the table; return the exit code."""
    import os

    from gaia_redshift.bridges.messages import send_table
    from gaia_redshift.readers.results import read_table

    if not os.path.exists(arguments.table):
        raise InputError(f"{arguments.table}: no such file")
    table = read_table(arguments.table)
    name = arguments.name or os.path.basename(arguments.table)
    taken = send_table(table, recipient=arguments.to, name=name)
    if not arguments.quiet:
        print(f"{len(table):,} rows sent to {', '.join(taken)}")
    return 0
