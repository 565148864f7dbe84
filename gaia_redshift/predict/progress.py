"""A progress bar over many files, with rate and remaining time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia_redshift.readers.content import ReadMeter

__all__ = ["Progress", "count_rows"]


class Progress:
    """Counts sources; how many there will be is counted or, for text, estimated from bytes.

    ``done`` are those of an earlier run.
    """

    def __init__(self, sources: Sequence[Any], *, shown: bool, done: int = 0) -> None:
        self.shown = shown
        self._bar: Any = None
        self._sources = sources
        self._read: dict[int, int] = {}  # rows read of each input
        self._finished: set[int] = set()
        self._meter: ReadMeter | None = None
        self._reading = -1
        if not shown:
            return
        from gaia_redshift._display import open_bar

        self._rows = [_count(source) for source in sources]
        self._bytes = [_measure(source) for source in sources]
        self._bar = open_bar(
            desc="predicting", unit=" sources", unit_scale=True, initial=done, leave=False
        )
        self._estimate()

    def start_reading(self, index: int, meter: ReadMeter, start: int) -> None:
        """Follow this input from now on; so many rows of it were done before."""
        if self._reading >= 0:
            self._finished.add(self._reading)
        self._reading, self._meter = index, meter
        self._read[index] = start

    def note_read(self, n: int) -> None:
        """Count rows that were read."""
        self._read[self._reading] = self._read.get(self._reading, 0) + n

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
        rows, n_bytes = 0, 0
        for index in [i for i in self._read if self._rows[i] is None]:
            rows += self._read[index]
            if index in self._finished:
                n_bytes += self._bytes[index]
            elif self._meter is not None:
                n_bytes += self._meter.tell()
        total = 0.0
        for known, size in zip(self._rows, self._bytes, strict=True):
            if known is not None:
                total += known
            elif rows and n_bytes:
                total += size * rows / n_bytes
            else:
                total = math.nan
        self._bar.total = None if math.isnan(total) else max(int(total), self._bar.n)


def _measure(source: Any) -> int:
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
