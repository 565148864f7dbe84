"""What notebooks show of an object of this package: a small table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from numpy.typing import NDArray

__all__ = ["format_facts", "name_some"]


def format_facts(title: str, facts: Iterable[tuple[str, Any]]) -> str:
    """Return names and values as HTML; what is None is left out."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts
        if value is not None
    )
    return f"<table><caption><b>{escape(title)}</b></caption><tbody>{rows}</tbody></table>"


def name_some(values: Sequence[Any] | NDArray[Any], most: int = 3) -> str | None:
    """Return the first few and how many more there are; None if there are none."""
    shown = ", ".join(str(value) for value in values[:most])
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return (shown + more) or None
