"""Which of several sources a figure is of: by its row, or by its source_id."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError

__all__ = ["find_row"]


def find_row(source_ids: NDArray[np.int64], row: int, source_id: int | None) -> int:
    """Return the row, of the first source with this id where one is given.

    Raises `InputError` if there is no such row or source.
    """
    if source_id is not None:
        found = np.flatnonzero(source_ids == int(source_id))
        if not len(found):
            raise InputError(f"there is no source_id {source_id} among {len(source_ids):,} sources")
        return int(found[0])
    if not -len(source_ids) <= row < len(source_ids):
        raise InputError(f"there is no row {row}: there are {len(source_ids)} sources")
    return row
