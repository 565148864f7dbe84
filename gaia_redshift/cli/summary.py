"""What ``predict`` says of its result: words on stderr, or JSON on stdout; metrics and the plot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import escape_controls

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["TRUTH", "Summary", "say"]

TRUTH = "redshift_true"
"""Column of true redshifts that simulated spectra carry; compared with when it is there."""
_CHOOSING = ("flags_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "probability_galaxy")


def say(arguments: argparse.Namespace, words: str) -> None:
    """Print on stderr, unless the command is to be quiet or speaks JSON."""
    if not (arguments.quiet or arguments.json):
        print(escape_controls(words), file=sys.stderr)


class Summary:
    """The columns that metrics and the plot need, gathered as the table is written."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self._tables: list[Table] = []
        self._truth: str | None = None
        self.columns: list[str] | None = None
        """Names of the output's columns, by which a clean sample is chosen."""

    def collect(self, table: Table) -> None:
        """Take the columns of some rows."""
        self.columns = table.colnames
        truth = self._name_truth(table)
        if truth or self.arguments.plot:
            names = ["redshift_cnn", *_CHOOSING, *([truth] if truth else [])]
            self._tables.append(table[[name for name in names if name in table.colnames]])
            self._truth = truth or self._truth

    def _name_truth(self, table: Table) -> str | None:
        truth = self.arguments.truth or (TRUTH if TRUTH in table.colnames else None)
        if truth and f"{truth}_in" in table.colnames:  # the output has such a column itself
            return f"{truth}_in"
        return truth

    def finish(
        self,
        *,
        n: int,
        n_masked: int,
        n_usable: int,
        flags: Mapping[str, int],
        n_written: int | None = None,
        n_failed: int = 0,
    ) -> None:
        """Draw the plot that was asked for, and say how it went.

        ``n`` sources, of which ``n_masked`` have no redshift and ``n_usable`` are usable;
        ``flags``: number of sources with each, by name; ``n_written`` rows of the output, where it
        is a clean sample; ``n_failed`` inputs that could not be read.
        """
        from gaia_redshift.clean import find_clean, format_clean
        from gaia_redshift.cli.terminal import measure, summarise_counts, summarise_metrics
        from gaia_redshift.tables.stacks import stack_tables

        arguments = self.arguments
        table = stack_tables(self._tables) if self._tables else None
        metrics = None
        if table is not None and self._truth:
            good = find_clean(table, arguments.clean or "usable")
            metrics = measure(table[good], self._truth)
        if arguments.plot and table is not None:
            from gaia_redshift.plot import plot_predictions, save_plot
            from gaia_redshift.plot.canvas import off_screen

            with off_screen():
                save_plot(plot_predictions(table, self._truth), arguments.plot)
        if arguments.json:
            found: dict[str, Any] = {
                "sources": n,
                "with_redshift": n - n_masked,
                "usable": n_usable,
                "flags": dict(flags),
                "failed_inputs": n_failed,
                "output": arguments.output,
                "plot": arguments.plot,
            }
            if arguments.clean:
                found |= {"clean": arguments.clean, "written": n_written}
            if metrics is not None:
                found["metrics"] = {"truth": self._truth, **_plain(metrics)}
            print(json.dumps(found))
            return
        lines = [summarise_counts(n, n_masked, n_usable, flags)]
        if metrics is not None:
            lines.append(summarise_metrics(metrics, str(self._truth)))
        if n_written is not None and arguments.clean:
            chosen = format_clean(arguments.clean, self.columns)
            lines.append(f"{n_written:,} of {n:,} are {arguments.clean}: {chosen}")
        if arguments.output:
            lines.append(f"table: {arguments.output}")
        if arguments.plot:
            lines.append(f"plot: {arguments.plot}")
        say(arguments, "\n".join(lines))


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as JSON has them; None for what is not finite."""
    plain = {
        name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()
    }
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in plain.items()
    }
