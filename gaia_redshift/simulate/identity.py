"""What a source_id says of a simulated source: its kind and the seed it was drawn with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FIRST_SOURCE_ID", "KINDS", "are_simulated", "find_seeds", "give_source_ids"]

FIRST_SOURCE_ID = 7_000_000_000_000_000_000
"""Above every real Gaia source_id (HEALPix level 12 ends at 6.917e18): simulated ids stand out."""
KINDS = ("galaxy", "star", "quasar", "sed", "double_star", "smeared_star", "star_galaxy")
"""What can be simulated; each kind has source_ids of its own."""
_OF_A_KIND, _OF_A_SEED = 1_000_000_000_000_000, 10_000_000_000
_SEEDS = 10_000


def give_source_ids(kind: str, seed: int, first: int, n: int) -> NDArray[np.int64]:
    """Return the source_ids of ``n`` sources of a kind and seed, the first one's number given."""
    start = FIRST_SOURCE_ID + KINDS.index(kind) * _OF_A_KIND + (seed % _SEEDS) * _OF_A_SEED + first
    return start + np.arange(n, dtype=np.int64)


def are_simulated(source_id: Any) -> bool:
    """Whether there are ids (shape (n,)) and all are of the simulator's; masked ones are not."""
    ids = np.ma.filled(np.ma.asarray(source_id), 0)
    return len(ids) > 0 and ids.dtype.kind in "iu" and bool((ids >= FIRST_SOURCE_ID).all())


def find_seeds(source_id: NDArray[np.int64]) -> list[int]:
    """Return the seeds, modulo 10,000, of the simulated galaxies among these ids, shape (n,)."""
    rest = source_id[source_id >= FIRST_SOURCE_ID] - FIRST_SOURCE_ID
    galaxies = rest[rest < _OF_A_KIND]
    return [int(seed) for seed in np.unique(galaxies // _OF_A_SEED % _SEEDS)]
