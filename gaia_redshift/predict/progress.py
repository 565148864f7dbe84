"""A progress bar over many files, with rate and remaining time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Progress", "count_rows", "measure_size"]


class Progress:
    """Counts sources; how many there will be is counted or, for text, estimated from bytes.

    ``done`` are those of an earlier run.
    """

    def __init__(self, sources: Sequence[Any], *, shown: bool, done: int = 0) -> None:
        self.shown = shown
        self._bar: Any = None
        self.read: dict[int, tuple[int, int | None]] = {}
        """What `follow` was told last of each input."""
        self._rows_read = self._bytes_read = 0
        if not shown:
            return
        from gaia_redshift._display import open_bar

        counts = [_count(source) for source in sources]
        self._known = sum(n for n in counts if n is not None)
        self._sizes = {i: measure_size(sources[i]) for i, n in enumerate(counts) if n is None}
        self._all_bytes = sum(self._sizes.values())
        self._bar = open_bar(
            desc="predicting", unit=" sources", unit_scale=True, initial=done, leave=False
        )
        self._estimate()

    def follow(self, index: int, n_rows: int, n_bytes: int | None = None) -> None:
        """Note that so many rows of an input are read, from so many bytes; by default from all."""
        rows_before, bytes_before = self.read.get(index, (0, 0))
        self.read[index] = n_rows, n_bytes
        if self.shown and index in self._sizes:
            size = self._sizes[index]
            self._rows_read += n_rows - rows_before
            self._bytes_read += (size if n_bytes is None else n_bytes) - (
                size if bytes_before is None else bytes_before
            )

    def update(self, n: int) -> None:
        """Count sources that were predicted."""
        if self._bar is not None:
            self._estimate()
            self._bar.update(n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _estimate(self) -> None:
        """Set the total: rows where they are known, else bytes at the rate of rows so far."""
        if self._sizes and not (self._rows_read and self._bytes_read):
            self._bar.total = None
            return
        total = self._known
        if self._sizes:
            total += self._all_bytes * self._rows_read // self._bytes_read
        self._bar.total = max(total, self._bar.n)


def measure_size(source: Any) -> int:
    """Return the bytes of a file; 0 where it is none, or is there no more."""
    with suppress(OSError, TypeError):
        return os.path.getsize(source)
    return 0


def _count(source: Any) -> int | None:
    if isinstance(source, Path):
        with suppress(Exception):  # whatever is wrong with it, reading will say
            return count_rows(source)
        return None
    with suppress(TypeError):
        return len(source)
    return None


def count_rows(path: Path) -> int | None:
    """Return the number of rows of a file where that costs next to nothing, else None."""
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PAR1"):
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    if head == b"SIMPLE  =":
        from astropy.io import fits

        with fits.open(path) as hdus:
            return sum(int(hdu.header["NAXIS2"]) for hdu in hdus[1:])
    return None
