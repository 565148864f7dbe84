"""What commands say, and standard output as their file; a terminal shows it and does not obey.

What ``predict`` says of its result, rows and words or JSON, is a `Summary`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import escape_controls
from gaia_redshift.clean import explain_unusable, find_clean, format_clean
from gaia_redshift.cli.options import STREAMED
from gaia_redshift.errors import InputError
from gaia_redshift.flags import decode_flags, tell_flags
from gaia_redshift.metrics.points import compute_metrics
from gaia_redshift.readers.content import STANDARD

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.predict.files import FileSummary

__all__ = [
    "PROGRAM",
    "TRUTH",
    "PlainStream",
    "Summary",
    "complain",
    "format_columns",
    "open_output",
    "say",
]

PROGRAM = "gaia-redshift"
SHOWN_ROWS = 20
TRUTH = "redshift_true"
"""Column of true redshifts that simulated spectra carry; compared with when it is there."""
_CHOOSING = ("flags_cnn", "redshift_cnn_lower", "redshift_cnn_upper", "probability_galaxy")


class PlainStream:
    """A stream of text on which control characters are shown, not obeyed.

    What its encoding does not have is shown as an escape, too. Without ``escape`` control
    characters pass, for progress bars, which move the cursor.
    """

    def __init__(self, stream: Any, *, escape: bool = True) -> None:
        self._stream, self._escape = stream, escape

    def write(self, text: str) -> int:
        """Write text."""
        shown = escape_controls(text) if self._escape else text
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:
            encoding = getattr(self._stream, "encoding", None) or "ascii"
            self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(arguments: argparse.Namespace, words: Any) -> None:
    """Print what became of the work, unless the command is to be quiet.

    Where standard output is the result, a table or JSON, words go to stderr.
    """
    if not arguments.quiet:
        print(escape_controls(str(words)), file=sys.stderr if arguments.piped else sys.stdout)


def complain(message: str, word: str = "error") -> None:
    """Print a message on stderr, in one line."""
    print(f"{PROGRAM}: {word}: {escape_controls(' '.join(message.split()))}", file=sys.stderr)


@contextmanager
def open_output(arguments: argparse.Namespace) -> Iterator[None]:
    """Write what the command writes to standard output, where that is asked for (``-o -``).

    ``arguments.piped`` then says that words must go elsewhere, ``arguments.where`` what they say of
    the place. `InputError` if ``--format`` is given with a file, whose ending says its format.
    """
    arguments.piped = arguments.output == STANDARD
    arguments.where = "standard output" if arguments.piped else arguments.output
    if not arguments.piped:
        if arguments.format:
            raise InputError("--format goes with -o -: a file's ending says its format")
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{STREAMED[arguments.format or 'ecsv']}"
        arguments.output = str(path)
        try:
            yield
        finally:
            arguments.output = STANDARD
        if path.exists():
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()


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

    def finish(self, done: FileSummary) -> None:
        """Draw the plot that was asked for, and say how it went."""
        from gaia_redshift.tables.columns import stack_tables

        arguments = self.arguments
        table = stack_tables(self._tables) if self._tables else None
        metrics = None
        if table is not None and self._truth:
            good = find_clean(table, arguments.clean or "usable")
            chosen = table[good]
            metrics = compute_metrics(chosen["redshift_cnn"], chosen[self._truth])
        if arguments.plot and table is not None:
            from gaia_redshift.plot import plot_predictions, save_plot
            from gaia_redshift.plot.canvas import off_screen

            with off_screen():
                save_plot(plot_predictions(table, self._truth), arguments.plot)
        if arguments.json:
            found: dict[str, Any] = {
                "sources": done.n_rows,
                "with_redshift": done.n_rows - done.n_masked,
                "usable": done.n_usable,
                "flags": done.flags,
                "failed_inputs": len(done.failed),
                "output": arguments.where,
                "plot": arguments.plot,
            }
            if arguments.clean:
                found |= {"clean": arguments.clean, "written": done.n_written}
            if metrics is not None:
                found["metrics"] = {"truth": self._truth, **_plain(metrics)}
            print(json.dumps(found))
            return
        lines = [_summarise_counts(done)]
        if metrics is not None:
            lines.append(_summarise_metrics(metrics, str(self._truth)))
        if arguments.clean:
            chosen = format_clean(arguments.clean, self.columns)
            lines.append(f"{done.n_written:,} of {done.n_rows:,} are {arguments.clean}: {chosen}")
        if arguments.where:
            lines.append(f"table: {arguments.where}")
        if arguments.plot:
            lines.append(f"plot: {arguments.plot}")
        say(arguments, "\n".join(lines))


def _plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as JSON has them; None for what is not finite."""
    plain = {name: np.asarray(value).item() for name, value in metrics.items()}
    return {name: value if np.isfinite(value) else None for name, value in plain.items()}


def _summarise_counts(done: FileSummary) -> str:
    """Return these numbers in words."""
    n, n_masked, n_usable = done.n_rows, done.n_masked, done.n_usable
    text = f"{n:,} source{'s' * (n != 1)}, {n - n_masked:,} with a redshift"
    if n_masked:
        text += f", {n_masked:,} masked" + (": no redshift at all" if n_masked == n else "")
    if n_usable < n - n_masked:
        text += f"; {explain_unusable(n, n_usable, done.flags)}"
    return f"{text}; flags: {tell_flags(done.flags)}"


def _summarise_metrics(found: Mapping[str, Any], truth: str) -> str:
    """Return metrics of usable rows in one line."""
    if not found["n"]:
        return f"against {truth}: no usable row to compare"
    return (
        f"against {truth}: n {found['n']:,}, bias {found['bias']:+.4f},"
        f" sigma_NMAD {found['sigma_nmad']:.4f}, MAE {found['mae']:.4f},"
        f" |dz| > 0.15: {100 * found['outliers_15']:.2f} %"
    )


def format_columns(columns: Mapping[str, Any]) -> str:
    """Return the first rows, aligned: redshifts, probabilities with 4 decimals, flags in words."""
    n = len(columns["flags_cnn"])
    shown = min(n, SHOWN_ROWS)
    cells: dict[str, list[str]] = {}
    for name, values_of_all in columns.items():
        column = values_of_all[:shown]
        if column.ndim > 1:  # distributions
            continue
        masked = np.ma.getmaskarray(np.ma.asarray(column))
        values = list(np.ma.getdata(column))
        if name == "flags_cnn":
            texts = [", ".join(words) or "-" for words in decode_flags(np.asarray(column))]
        elif name.startswith(("redshift", "probability")):
            texts = [f"{v:.4f}" for v in values]
        else:
            texts = [f"{v:.6g}" if isinstance(v, (float, np.floating)) else str(v) for v in values]
        cells[name] = ["--" if hidden else t for t, hidden in zip(texts, masked, strict=True)]
    names = [name for name in cells if name != "flags_cnn"] + ["flags_cnn"]  # words come last
    widths = {name: max(map(len, [name, *cells[name]])) for name in names}
    lines = ["  ".join(name.rjust(widths[name]) for name in names[:-1]) + "  flags_cnn"]
    for i in range(shown):
        start = "  ".join(cells[name][i].rjust(widths[name]) for name in names[:-1])
        lines.append(f"{start}  {cells['flags_cnn'][i]}")
    if n > shown:
        lines.append(f"... {n - shown:,} more rows (--output FILE writes them all)")
    return "\n".join(lines)
