"""What became of each source that was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import QualityFlag

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["FetchAccount", "FetchStatus"]


class FetchStatus(IntEnum):
    """What the archive had for a source."""

    PENDING = -1
    SPECTRUM = 0
    NO_PUBLIC_XP = 1
    UNKNOWN_ID = 2
    FAILED = 3
    NO_GAIA_SOURCE = 4


_ABOUT = {
    FetchStatus.PENDING: ("not asked yet", QualityFlag.FETCH_FAILED),
    FetchStatus.SPECTRUM: ("spectrum", QualityFlag(0)),
    FetchStatus.NO_PUBLIC_XP: ("no public XP", QualityFlag.NO_PUBLIC_XP),
    FetchStatus.UNKNOWN_ID: ("unknown id", QualityFlag.UNKNOWN_SOURCE_ID),
    FetchStatus.FAILED: ("failed", QualityFlag.FETCH_FAILED),
    FetchStatus.NO_GAIA_SOURCE: ("no Gaia source", QualityFlag.NO_GAIA_SOURCE),
}
"""Words and flag of each status."""


def status_flags(status: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return the flag bits that go with statuses."""
    flags = np.array([_ABOUT[one][1] for one in FetchStatus], dtype=np.int32)
    return np.asarray(flags[status - np.int8(FetchStatus.PENDING)])


@dataclass
class FetchAccount:
    """One line for each source asked for, in the order asked, duplicates included.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
        0 for a position without a Gaia source.
    status : ndarray, shape (n,), int8
        Values of `FetchStatus`.
    reasons : dict
        Why a source_id failed, in words.
    n_cached : int
        Distinct sources that were in the cache before.
    n_requests : int
        Requests for spectra made, the failed ones included.
    """

    source_id: NDArray[np.int64]
    status: NDArray[np.int8] = None  # type: ignore[assignment]
    reasons: dict[int, str] = field(default_factory=dict)
    n_cached: int = 0
    n_requests: int = 0

    def __post_init__(self) -> None:
        if self.status is None:
            self.status = np.full(len(self.source_id), FetchStatus.PENDING, dtype=np.int8)

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each status, in words; those that occur."""
        found = {words: int((self.status == s).sum()) for s, (words, _) in _ABOUT.items()}
        return {words: n for words, n in found.items() if n}

    @property
    def complete(self) -> bool:
        """Whether nothing failed: asking again would bring nothing more."""
        return not np.isin(self.status, (FetchStatus.PENDING, FetchStatus.FAILED)).any()

    def summary(self) -> str:
        """Return one line: how many of each, and why some failed."""
        parts = ", ".join(f"{n:,} {words}" for words, n in self.counts.items())
        text = f"{len(self):,} source{'s' * (len(self) != 1)} asked for: {parts or 'none'}"
        if self.reasons:
            counted = Counter(self.reasons.values())
            most = counted.most_common(1)[0][0]
            others = f" (and {len(counted) - 1} other reasons)" if len(counted) > 1 else ""
            text += f"; failed because {most}{others}"
        return text

    def to_table(self) -> Table:
        """Return ``source_id``, ``status`` in words and ``reason``, a row for each asked for."""
        from astropy.table import Table

        words = np.array([_ABOUT[one][0] for one in FetchStatus])
        return Table(
            {
                "source_id": self.source_id,
                "status": words[self.status - np.int8(FetchStatus.PENDING)],
                "reason": [self.reasons.get(int(i), "") for i in self.source_id],
            }
        )
