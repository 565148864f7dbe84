"""The command ``gaia-redshift``: `command` runs it, `parser` knows its options.

One module for each subcommand that needs more than a few lines; `output`, `summary` and `terminal`
are what they share. Prints and exit codes are in this room alone.
"""

from __future__ import annotations

from gaia_redshift.cli.command import main

__all__ = ["main"]
