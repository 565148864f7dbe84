"""Tables and summaries as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.clean import explain_unusable, find_clean
from gaia_redshift.flags import QualityFlag, decode_flags
from gaia_redshift.metrics.points import compute_metrics

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "count_columns",
    "format_columns",
    "measure",
    "summarise_counts",
    "summarise_metrics",
]

SHOWN_ROWS = 20


def count_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many sources there are, without a redshift, usable, and with each flag."""
    flags = np.asarray(columns["flags_cnn"])
    masked = int(np.ma.getmaskarray(np.ma.asarray(columns["redshift_cnn"])).sum())
    counts = {str(f.name).lower(): int(((flags & f) != 0).sum()) for f in QualityFlag}
    return {
        "n": len(flags),
        "n_masked": masked,
        "n_usable": int(find_clean(columns, "usable").sum()),
        "flags": {name: count for name, count in counts.items() if count},
    }


def summarise_counts(n: int, n_masked: int, n_usable: int, flags: Mapping[str, int]) -> str:
    """Return these numbers in words; ``flags`` by their names."""
    names = [str(f.name).lower() for f in QualityFlag]
    words = ", ".join(f"{name} {flags[name]:,}" for name in names if flags.get(name))
    text = f"{n:,} source{'s' * (n != 1)}, {n - n_masked:,} with a redshift"
    if n_masked:
        text += f", {n_masked:,} masked" + (": no redshift at all" if n_masked == n else "")
    if n_usable < n - n_masked:
        text += f"; {explain_unusable(n, n_usable, dict(flags))}"
    return f"{text}; flags: {words or 'none'}"


def measure(table: Table, truth: str) -> dict[str, Any]:
    """Return metrics against the column of true redshifts."""
    return compute_metrics(table["redshift_cnn"], table[truth])


def summarise_metrics(found: Mapping[str, Any], truth: str) -> str:
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
