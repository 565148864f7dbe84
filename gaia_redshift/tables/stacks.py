"""Tables stacked whose columns may differ, and given types: `stack_tables`, `settle_types`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.tables.columns import add_column, replace_column
from gaia_redshift.tables.types import (
    AS_WRITTEN,
    Note,
    cast_column,
    join_notes,
    note_column,
    simplify_column,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["settle_types", "stack_tables"]


def stack_tables(tables: Sequence[Table]) -> Table:
    """Stack tables whose columns may differ: a column that a part lacks is masked there.

    Numbers become the type that holds them all, or text (see `gaia_redshift.tables.types`).

    Raises
    ------
    InputError
        If a column holds arrays of different shapes.
    """
    from astropy.table import Table

    if len(tables) == 1:
        return tables[0].copy()
    stacked = Table(meta=dict(tables[0].meta))
    for name in dict.fromkeys(name for table in tables for name in table.colnames):
        _stack_column(stacked, name, tables)
    return stacked


def _stack_column(stacked: Table, name: str, tables: Sequence[Table]) -> None:
    holders = [table[name] for table in tables if name in table.colnames]
    parts = [simplify_column(column, name) for column in holders]
    written = [bool((column.info.meta or {}).get(AS_WRITTEN)) for column in holders]
    notes = [
        note_column(part) if not text else note_column(column)
        for part, text, column in zip(parts, written, holders, strict=True)
    ]
    shapes = {tuple(note["shape"]) for note in notes}
    if len(shapes) > 1:
        raise InputError(f"column '{name}' holds arrays of different shapes: {sorted(shapes)}")
    if all(written):
        dtype = np.dtype(f"<U{max(part.dtype.itemsize // 4 for part in parts) or 1}")
    else:
        dtype = np.dtype(join_notes(notes)["dtype"])
    shape = shapes.pop()
    there = iter(parts)
    pieces = [
        cast_column(next(there), dtype)
        if name in table.colnames
        else np.ma.MaskedArray(np.zeros((len(table), *shape), dtype=dtype), mask=True)
        for table in tables
    ]
    values = np.ma.concatenate(pieces)
    plain = values if np.ma.getmaskarray(values).any() else values.data
    add_column(stacked, name, plain, _choose_described(holders))
    if not all(written):
        stacked[name].info.meta.pop(AS_WRITTEN, None)


def _choose_described(holders: Sequence[Any]) -> Any:
    """Return the first column that has a unit or a description, else the first."""
    said = [c for c in holders if getattr(c, "unit", None) or c.info.description]
    return (said or list(holders))[0]


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
