"""Progress bars: tqdm's, in notebooks those of Jupyter; imported only where one is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["open_bar", "show_progress", "tell"]


def open_bar(*items: Any, disable: bool = False, **options: Any) -> Any:
    """Return a bar of tqdm; where none is shown, Jupyter is not asked for one."""
    if disable:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(*items, disable=disable, **options)


@contextmanager
def show_progress(
    name: str, total: int, *, unit: str, shown: bool, leave: bool = True
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
