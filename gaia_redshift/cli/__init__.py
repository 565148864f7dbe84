"""The command ``gaia-redshift``: `command` runs one of its subcommands.

The other modules hold these, each declared as a `Command` at the end of its part; `options` and
`output` are what they share. Prints and exit codes are in this room alone.
"""

from __future__ import annotations

from gaia_redshift.cli.command import main

__all__ = ["main"]
