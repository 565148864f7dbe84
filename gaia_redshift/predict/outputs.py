"""What the parts of a run become: one table, of columns that hold those of all parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.tables.columns import add_column
from gaia_redshift.tables.types import Note, cast_column, join_notes

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Columns", "find_repeated", "fit_columns", "join_columns"]

IDS_AT_ONCE = 1 << 22
"""Source ids compared in memory at a time: 34 MB."""
Columns = dict[str, Note]
"""Name to note: what `gaia_redshift.predict.journal` writes down of each part."""


def find_repeated(read_ids: Callable[[], Iterable[NDArray[np.int64]]], n: int) -> NDArray[np.int64]:
    """Return the source ids that occur more than once, each once, in order.

    ``read_ids`` gives all n ids, array by array; called again for each pass. Beyond `IDS_AT_ONCE`
    several passes are made, so that memory is bounded.
    """
    # Odd: nearly all Gaia ids are multiples of 128, and divide into even numbers badly.
    n_passes = -(-n // IDS_AT_ONCE) | 1
    found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for number in range(n_passes):
        ids = np.empty(min(n, 2 * IDS_AT_ONCE), dtype=np.int64)
        end = 0
        for part in read_ids():
            chosen = part if n_passes == 1 else part[part % n_passes == number]
            if end + len(chosen) > len(ids):  # twice a pass's share: not ids as Gaia's are
                ids = np.resize(ids, 2 * (end + len(chosen)))
            ids[end : end + len(chosen)] = chosen
            end += len(chosen)
        ids = ids[:end]
        ids.sort()
        found.append(np.unique(ids[1:][ids[1:] == ids[:-1]]))
    return np.sort(np.concatenate(found))


def join_columns(parts: Iterable[Columns]) -> Columns:
    """Return columns that hold those of all parts; one that a part lacks is masked there."""
    parts = list(parts)
    joined: Columns = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        holders = [part[name] for part in parts if name in part]
        joined[name] = join_notes(holders, absent=len(holders) < len(parts))
    return joined


def fit_columns(table: Table, columns: Columns) -> Table:
    """Give a part the columns that the file has."""
    from astropy.table import MaskedColumn, Table

    fitted = Table(meta=table.meta)
    n = len(table)
    for name, about in columns.items():
        dtype = np.dtype(about["dtype"])
        if name not in table.colnames:
            values = np.zeros((n, *about["shape"]), dtype=dtype)
            masked = np.ma.MaskedArray(values, mask=np.ones(values.shape, dtype=bool))
            fitted[name] = MaskedColumn(masked, fill_value=values.dtype.type())
            continue
        found = cast_column(table[name], dtype)
        if about["masked"]:
            found = np.ma.MaskedArray(found, fill_value=dtype.type())
        add_column(fitted, name, found, table[name])
    return fitted
