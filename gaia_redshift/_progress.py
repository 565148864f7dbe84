"""A progress bar for work that counts itself; tqdm is imported only where one is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["show_progress"]


@contextmanager
def show_progress(
    name: str, total: int, *, unit: str, shown: bool, leave: bool = True
) -> Iterator[Callable[[int], object]]:
    """Give a function that is told how much more is done; ``leave`` keeps the full bar."""
    if not shown:
        yield lambda n_more: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit=unit, leave=leave) as bar:
        yield bar.update
