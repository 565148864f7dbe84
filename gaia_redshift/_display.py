"""What is shown of work and of objects: progress bars, and small tables in notebooks.

Bars are tqdm's, in notebooks those of Jupyter; imported only where one is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from numpy.typing import NDArray

__all__ = ["format_facts", "name_some", "open_bar", "show_progress", "tell"]


def open_bar(*items: Any, disable: bool = False, **options: Any) -> Any:
    """Return a bar of tqdm; where none is shown, Jupyter is not asked for one."""
    if disable:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(*items, disable=disable, **options)


@contextmanager
def show_progress(
    name: str, total: int | None, *, unit: str, shown: bool, leave: bool = True
) -> Iterator[Callable[[int], object]]:
    """Give a function that is told how much more is done; ``leave`` keeps the full bar."""
    if not shown:
        yield lambda n_more: None
        return
    with open_bar(total=total, desc=name, unit=unit, leave=leave) as bar:
        yield bar.update


def tell(text: str) -> None:
    """Print a line above the bars, on stderr."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def format_facts(title: str, facts: Iterable[tuple[str, Any]]) -> str:
    """Return names and values as a table in HTML; what is None is left out."""
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
