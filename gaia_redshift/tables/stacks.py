"""Tables stacked whose columns may differ, and given types: `stack_tables`, `settle_types`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import make_table, replace_column, take_table
from gaia_redshift.tables.types import (
    AS_WRITTEN,
    Note,
    cast_column,
    join_notes,
    note_column,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["fit_values", "join_columns", "settle_types", "stack_tables"]


def stack_tables(tables: Sequence[Table]) -> Table:
    """Stack tables whose columns may differ: a column that a part lacks is masked there.

    Numbers become the type that holds them all, or text (see `gaia_redshift.tables.types`).

    Raises
    ------
    InputError
        If a column holds arrays of different shapes.
    """
    if len(tables) == 1:
        return tables[0].copy()
    taken = [take_table(table) for table in tables]
    notes = join_columns([{c.name: c.note for c in columns} for columns, _ in taken])
    described, values = [], {}
    for name, joined in notes.items():
        holders = [column for columns, _ in taken for column in columns if column.name == name]
        shapes = {column.shape for column in holders}
        if len(shapes) > 1:
            raise InputError(f"column '{name}' holds arrays of different shapes: {sorted(shapes)}")
        like = next((c for c in holders if c.unit or c.description), holders[0])
        note = joined
        if all("proof" in column.note for column in holders):  # stays as it is written
            widest = max(column.dtype.itemsize for column in holders)
            note = {**joined, "dtype": f"<U{max(widest // 4, 1)}"}
        else:
            like = replace(like, meta={k: v for k, v in like.meta.items() if k != AS_WRITTEN})
        pieces = [
            fit_values(block.get(name), note, len(table))
            for table, (_, block) in zip(tables, taken, strict=True)
        ]
        whole = np.ma.concatenate(pieces)
        values[name] = whole if np.ma.getmaskarray(whole).any() else whole.data
        described.append(like)
    return make_table(described, dict(tables[0].meta), values)


def join_columns(parts: Sequence[Mapping[str, Note]]) -> dict[str, Note]:
    """Return columns that hold those of all parts; one that a part lacks is masked there."""
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        holders = [part[name] for part in parts if name in part]
        joined[name] = join_notes(holders, absent=len(holders) < len(parts))
    return joined


def fit_values(values: Any, note: Note, n: int) -> Any:
    """Return a part's n values as the type of the whole; masked where the part has none."""
    dtype = np.dtype(note["dtype"])
    if values is None:
        return np.ma.MaskedArray(np.zeros((n, *note["shape"]), dtype=dtype), mask=True)
    return cast_column(values, dtype)


def settle_types(table: Table, notes: Mapping[str, Note] | None = None) -> Table:
    """Give columns of csv files the types that they prove to have; the table itself is changed.

    ``notes`` tell, by name in lower case, what the whole of each column holds, where this is a
    part of it.
    """
    for name in table.colnames:
        if (table[name].info.meta or {}).get(AS_WRITTEN):
            note = (notes or {}).get(name.lower()) or join_notes([note_column(table[name])])
            replace_column(table, name, cast_column(table[name], np.dtype(note["dtype"])))
    return table
