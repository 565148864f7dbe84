"""Tables stacked whose columns may differ: `stack_tables`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.table_types import (
    AS_WRITTEN,
    cast_column,
    join_notes,
    note_column,
    simplify_column,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["add_column", "stack_tables"]


def stack_tables(tables: Sequence[Table]) -> Table:
    """Stack tables whose columns may differ: a column that a part lacks is masked there.

    Numbers become the type that holds them all, or text (see `gaia_redshift.table_types`).

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


def add_column(
    table: Table, name: str, values: Any, like: Any, *, unit: Any = None, null: Any = None
) -> None:
    """Add values as a column with the unit and description of another."""
    from astropy.table import Column, MaskedColumn

    info = like.info
    about = {
        "name": name,
        "unit": unit or getattr(like, "unit", None),
        "description": info.description,
        "meta": dict(info.meta or {}),
    }
    if not isinstance(values, np.ma.MaskedArray):
        table[name] = Column(values, **about)
        return
    if null is None and values.dtype.kind == "f":
        null = np.nan
    if null is None and values.dtype.kind in "iu":  # the default overflows small types
        null = np.iinfo(values.dtype).max
    table[name] = MaskedColumn(values, fill_value=null, **about)
