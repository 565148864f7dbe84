"""What a caller asks for, as source ids: ids, a query, a table with ids or with positions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.releases import Release
from gaia_redshift.errors import InputError
from gaia_redshift.readers.angles import to_degrees
from gaia_redshift.readers.columns import (
    choose_ids,
    find_position_names,
    tell_unused_ids,
    to_source_ids,
)
from gaia_redshift.readers.sources import is_id, is_id_list, is_query, is_sky_coord
from gaia_redshift.readers.tables import is_table, to_astropy
from gaia_redshift.readers.whole import read_ids
from gaia_redshift.tables.types import simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.archive.connection import Connections

__all__ = ["Wanted", "resolve_sources"]


@dataclass
class Wanted:
    """The sources asked for (n,), in order, with the other columns of the input.

    ``unmatched`` are positions without a Gaia source; their ``source_id`` is 0.
    """

    source_id: NDArray[np.int64]
    columns: Table | None = None
    unmatched: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.source_id)


def resolve_sources(
    sources: Any,
    release: Release,
    connect: Callable[[], Connections],
    *,
    radius: float = 1.0,
    notice: Callable[[str], None] | None = None,
) -> Wanted:
    """Turn what was asked for into source ids: ids, ADQL, a table, SkyCoord, or the path of ids.

    ``connect`` opens connections where a query is needed; ``radius`` (arcsec) is how far the Gaia
    source may be from a position; ``notice`` is told how long a query has been waiting.
    """
    if is_query(sources):
        from gaia_redshift.archive.jobs import run_query

        result = run_query(sources, connections=connect(), notice=notice)
        return _from_table(result, "the result of the query", release, connect, radius)
    if isinstance(sources, str | os.PathLike) and not is_id(sources):
        return _from_table(read_ids(sources), str(sources), release, connect, radius)
    if is_sky_coord(sources):
        from astropy.table import Table

        icrs = sources.icrs.reshape(-1) if sources.shape else sources.icrs.reshape(1)
        return _match_positions(
            Table({"ra": icrs.ra.deg, "dec": icrs.dec.deg}), "SkyCoord", release, connect, radius
        )
    if is_table(sources):
        table = to_astropy(sources)
        table.keep_columns([name for name in table.colnames if _is_plain(table[name])])
        return _from_table(table, type(sources).__name__, release, connect, radius)
    if is_id(sources) or is_id_list(sources):
        if isinstance(sources, int | np.integer | str):
            sources = [sources]
        elif isinstance(sources, set | frozenset):
            sources = sorted(sources, key=int)
        column = sources if hasattr(sources, "dtype") else list(sources)
        if hasattr(column, "to_numpy"):
            column = column.to_numpy()
        return Wanted(to_source_ids(column, "source_id"))
    if hasattr(sources, "__len__") and len(sources) == 0:
        raise InputError("no source_id given")
    if getattr(getattr(sources, "dtype", None), "kind", "") == "f":
        return Wanted(to_source_ids(np.asarray(sources), "source_id"))  # says what floats lose
    raise InputError(
        f"{type(sources).__name__}: expected source ids, an ADQL query, or a table with source_id"
        " or with ra and dec"
    )


def _is_plain(column: Any) -> bool:
    """Tell a column of single values: it may be kept beside spectra."""
    from astropy.table import Column

    return isinstance(column, Column) and column.ndim == 1


def _from_table(
    table: Table, label: str, release: Release, connect: Callable[[], Connections], radius: float
) -> Wanted:
    if not len(table):
        raise InputError(f"{label}: has no rows")
    name = choose_ids(table.colnames, lambda name: np.ma.asarray(table[name][:100]))
    if name is None:
        tell_unused_ids(table.colnames, label)
        return _match_positions(table, label, release, connect, radius)
    source_id = to_source_ids(simplify_column(table[name], name), label)
    rest = table.copy(copy_data=False)
    rest.remove_column(name)
    return Wanted(source_id, rest if rest.colnames else None)


def _match_positions(
    table: Table, label: str, release: Release, connect: Callable[[], Connections], radius: float
) -> Wanted:
    """Find the nearest Gaia source of each position."""
    names = find_position_names(table.colnames)
    if names is None:
        raise InputError(
            f"{label}: has neither source_id nor ra and dec; there are:"
            f" {', '.join(table.colnames[:12]) or 'no columns'}"
        )
    if not 0 < radius <= 60:
        raise InputError(f"radius must be more than 0 and at most 60 arcsec, not {radius}")
    ra, dec = (
        to_degrees(table[name], getattr(table[name], "unit", None), name, label) for name in names
    )
    usable = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    source_id = np.zeros(len(table), dtype=np.int64)
    separation = np.full(len(table), np.nan)
    if usable.any():
        from gaia_redshift.archive.counterparts import find_nearest

        source_id[usable], separation[usable] = find_nearest(
            connect(), ra[usable], dec[usable], release, radius
        )
    columns = table.copy(copy_data=False)
    columns["separation_gaia"] = separation
    columns["separation_gaia"].unit = "arcsec"
    columns["separation_gaia"].description = "Distance of the Gaia source from the position given"
    return Wanted(source_id, columns, source_id == 0)
