"""One HTML page that needs nothing else: style and pictures are inside, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from astropy.table import Table

from gaia_redshift.metrics.points import METRICS

__all__ = ["Figure", "Section", "format_page", "format_table"]


_WORDS = {
    "low": "from",
    "high": "to",
    "n": "galaxies",
    "n_rows": "rows",
    "n_masked": "without prediction",
    "n_without_truth": "without truth",
    "n_own": "galaxies of its own",
    "n_own_masked": "without prediction",
    "mae_own": "MAE on these",
    "mae": "MAE",
    "bias": "bias (mean dz)",
    "sigma_nmad": "\N{GREEK SMALL LETTER SIGMA}_NMAD",
    "mean_error": "mean error",
    "outliers_05": "|dz| > 0.05",
    "outliers_15": "|dz| > 0.15",
    "mae_ratio": "MAE / first",
    "sigma_nmad_ratio": "\N{GREEK SMALL LETTER SIGMA}_NMAD / first",
    "redshift_ugc": "redshift_ugc lies",
}
_PERCENT = {"outliers_05", "outliers_15", "coverage", "nominal", "below", "above"}
_SIGNED = {"bias", "mean_error"}


@dataclass(frozen=True)
class Figure:
    """A picture of the page: name of the file beside it, SVG bytes, and what it shows."""

    name: str
    svg: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page. ``notes`` are set off as warnings; tables have a caption each."""

    title: str
    text: Sequence[str] = ()
    notes: Sequence[str] = ()
    tables: Sequence[tuple[str, Any]] = ()
    figures: Sequence[Figure] = field(default_factory=tuple)


def format_page(title: str, sections: Sequence[Section], footer: str = "") -> str:
    """Return the page as HTML; all words are escaped."""
    body = "\n".join(_format_section(section, n) for n, section in enumerate(sections, start=1))
    entries = "".join(
        f'<li><a href="#part-{n}">{escape(section.title)}</a></li>'
        for n, section in enumerate(sections, start=1)
    )
    contents = f'<nav aria-label="Contents"><ul>{entries}</ul></nav>' if len(sections) > 1 else ""
    template = files("gaia_redshift") / "data" / "evaluate" / "page.html"
    return Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(title), contents=contents, body=body, footer=escape(footer)
    )


def format_table(table: Table, caption: str) -> str:
    """Return a table in HTML, each value with its standard error in one cell."""
    errors = {name: f"{name}_error" for name in table.colnames if _has_error(name, table.colnames)}
    names = [name for name in table.colnames if name not in errors.values()]
    text = {name for name in names if table[name].dtype.kind in "OSU"}
    css = {name: ' class="text"' if name in text else "" for name in names}
    head = "".join(
        f'<th scope="col"{css[name]}>{escape(_WORDS.get(name, name.replace("_", " ")))}</th>'
        for name in names
    )
    rows = []
    for row in table:
        cells = []
        for name in names:
            error = float(row[errors[name]]) if name in errors else None
            words = str(row[name]) if name in text else format_number(name, row[name], error)
            cells.append(f"<td{css[name]}>{escape(words)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _has_error(name: str, names: Sequence[str]) -> bool:
    """Tell whether a column of standard errors goes with this one: ``mean_error`` is no error."""
    return f"{name}_error" in names and f"{name}_error" not in METRICS


def format_number(name: str, value: Any, error: float | None = None) -> str:
    """Return a number in words: counts with commas, fractions in per cent, with its error."""
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    number = float(value)
    if not np.isfinite(number):
        return "\N{EN DASH}"
    if name in _PERCENT:
        number *= 100
        error = None if error is None else 100 * error
        shown, unit, digits = f"{number:.2f}".rstrip("0").rstrip("."), " %", 2
        if error is not None:
            shown = f"{number:.2f}"
    elif error is not None or name.startswith(("mae", "sigma", "width", "crps")):
        sign = "+" if name in _SIGNED else ""
        digits = 3 if name.endswith("ratio") else 4
        shown, unit = f"{number:{sign}.{digits}f}", ""
    else:
        return f"{number:.4g}"
    if error is None or not np.isfinite(error):
        return shown + unit
    return f"{shown} \N{PLUS-MINUS SIGN} {error:.{digits}f}{unit}"


def _format_section(section: Section, number: int) -> str:
    parts = [f'<section id="part-{number}"><h2>{escape(section.title)}</h2>']
    parts += [f'<p class="note">{escape(note)}</p>' for note in section.notes]
    parts += [f"<p>{escape(words)}</p>" for words in section.text]
    parts += [format_table(table, caption) for caption, table in section.tables]
    if section.figures:
        parts.append('<div class="figures">')
        parts += [_format_figure(figure) for figure in section.figures]
        parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def _format_figure(figure: Figure) -> str:
    data = base64.b64encode(figure.svg).decode("ascii")
    words = escape(figure.caption)
    return (
        f'<figure><img alt="{words}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{words} ({escape(figure.name)})</figcaption></figure>"
    )
