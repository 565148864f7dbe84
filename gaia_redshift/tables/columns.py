"""Columns of astropy tables: one as another is, places as two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.tables.types import AS_WRITTEN

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["add_column", "replace_column", "split_places"]


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


def replace_column(table: Table, name: str, values: Any) -> None:
    """Put values in the place of a column, which keeps its unit and description."""
    from astropy.table import Column, MaskedColumn

    old = table[name]
    kind = MaskedColumn if isinstance(values, np.ma.MaskedArray) else Column
    meta = {k: v for k, v in (old.info.meta or {}).items() if k != AS_WRITTEN}
    about = {"unit": getattr(old, "unit", None), "description": old.info.description}
    table.replace_column(name, kind(values, name=name, meta=meta, **about))


def split_places(table: Any) -> Any:
    """Return a table with two columns, as other programs have them, for each of `SkyCoord`."""
    from astropy.table import Table
    from astropy.units import deg

    split = Table(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if hasattr(column, "icrs"):
            split[f"{name}_ra"], split[f"{name}_dec"] = (
                column.icrs.ra.to(deg),
                column.icrs.dec.to(deg),
            )
            for part in ("ra", "dec"):
                split[f"{name}_{part}"].info.description = column.info.description
        else:
            split[name] = column
    return split
