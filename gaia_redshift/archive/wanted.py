"""What a caller asks for, as source ids: ids, a query, a table with ids or with positions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.releases import Release
from gaia_redshift.errors import InputError
from gaia_redshift.readers.angles import to_degrees
from gaia_redshift.readers.columns import (
    DEC_NAMES,
    RA_NAMES,
    choose_ids,
    find_id_name,
    tell_unused_ids,
    to_source_ids,
)
from gaia_redshift.readers.ids import read_ids
from gaia_redshift.readers.sources import ADQL
from gaia_redshift.readers.tables import is_table
from gaia_redshift.table_types import simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.archive.connection import Connections

__all__ = ["Wanted", "is_for_archive", "read_ids", "resolve_sources"]


@dataclass
class Wanted:
    """The sources asked for, in order.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
    columns : Table, n rows, or None
        The other columns of the input.
    unmatched : ndarray, shape (n,), bool, or None
        Positions without a Gaia source; their ``source_id`` is 0.
    """

    source_id: NDArray[np.int64]
    columns: Table | None = None
    unmatched: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.source_id)


def is_for_archive(sources: Any) -> bool:
    """Tell whether sources must be fetched: ids, ADQL, or a table that has no spectra.

    Files are not: their content is not looked at, and a wrong file should not start a download.
    """
    if isinstance(sources, str):
        text = sources.strip()
        return (text.isdigit() and not os.path.exists(sources)) or bool(ADQL.match(sources))
    if is_sky_coord(sources):
        return True
    if is_table(sources):
        return _table_is_for_archive(_column_names(sources)) and not _nests_spectra(sources)
    return _holds_ids(sources)


def _table_is_for_archive(names: list[str]) -> bool:
    lower = [name.lower().strip() for name in names]
    if any(re.match(r"[br]p_(coef|spectrum|flux)", name) for name in lower) or "flux" in lower:
        return False
    return find_id_name(names) is not None or _find_positions(names) is not None


def _nests_spectra(table: Any) -> bool:
    """Tell a table whose spectra lie in a column of records: they are not to be asked for."""
    for name in _column_names(table):
        try:
            column = table[name]
        except (KeyError, IndexError):  # a DataFrame's index
            continue
        kind = str(getattr(column, "type", getattr(column, "dtype", "")))
        if "coef" in kind.lower():  # pyarrow's structs, nested-pandas
            return True
        if kind == "object" and len(column):
            first = np.asarray(column[:1], dtype=object)[0]
            if isinstance(first, Mapping) and any("coef" in str(key).lower() for key in first):
                return True
    return False


def _holds_ids(sources: Any) -> bool:
    if isinstance(sources, bool | np.bool_):
        return False
    if isinstance(sources, int | np.integer | str):
        return _is_id(sources)
    if isinstance(sources, list | tuple | set | frozenset):
        return bool(sources) and all(_is_id(one) for one in sources)
    dtype = getattr(sources, "dtype", None)
    if getattr(sources, "ndim", 0) == 1 and dtype is not None:
        if getattr(dtype, "kind", "") in "iu" and len(sources):
            return True
        return bool(len(sources)) and all(isinstance(one, str) and _is_id(one) for one in sources)
    return False


def _is_id(one: Any) -> bool:
    if isinstance(one, str):
        return one.strip().isdigit() and not os.path.exists(one)
    return isinstance(one, int | np.integer) and not isinstance(one, bool)


def is_sky_coord(sources: Any) -> bool:
    """Tell an astropy SkyCoord without importing astropy's coordinates."""
    return type(sources).__name__ == "SkyCoord" and hasattr(sources, "icrs")


def _column_names(table: Any) -> list[str]:
    if isinstance(table, np.ndarray):
        return list(table.dtype.names or ())
    for attribute in ("colnames", "column_names"):
        if hasattr(table, attribute):
            return list(getattr(table, attribute))
    if hasattr(table, "columns"):
        index = getattr(getattr(table, "index", None), "name", None)
        return [str(name) for name in table.columns] + ([str(index)] if index else [])
    return [str(name) for name in table]


def resolve_sources(
    sources: Any,
    release: Release,
    connect: Callable[[], Connections],
    *,
    radius: float = 1.0,
    notice: Callable[[str], None] | None = None,
) -> Wanted:
    """Turn what was asked for into source ids.

    Parameters
    ----------
    sources : ids, ADQL, table with ``source_id`` or ``ra`` and ``dec``, SkyCoord, or path of ids
    release : Release
    connect : callable
        Opens connections, where a query is needed.
    radius : float, arcsec
        How far the Gaia source may be from a position.
    notice : callable, optional
        Told how long a query has been waiting.

    Returns
    -------
    Wanted

    Raises
    ------
    InputError
        If it cannot be read as any of these.
    ArchiveError
        If a query fails.
    """
    if isinstance(sources, str) and ADQL.match(sources):
        from gaia_redshift.archive.jobs import run_query

        result = run_query(sources, connections=connect(), notice=notice)
        return _from_table(result, "the result of the query", release, connect, radius)
    if isinstance(sources, str | os.PathLike) and not _is_id(sources):
        return _from_table(read_ids(sources), str(sources), release, connect, radius)
    if is_sky_coord(sources):
        from astropy.table import Table

        icrs = sources.icrs.reshape(-1) if sources.shape else sources.icrs.reshape(1)
        return _match_positions(
            Table({"ra": icrs.ra.deg, "dec": icrs.dec.deg}), "SkyCoord", release, connect, radius
        )
    if is_table(sources):
        label = type(sources).__name__
        return _from_table(_to_table(sources), label, release, connect, radius)
    if _holds_ids(sources):
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


def _to_table(sources: Any) -> Table:
    """Take any table in memory as an astropy table; integers stay integers."""
    from astropy.table import Table

    from gaia_redshift.readers.columns import from_arrow
    from gaia_redshift.readers.tables import open_table

    columns, infos = open_table(sources)
    table = Table()
    for name, column in columns.items():
        values = from_arrow(column)
        if getattr(values, "ndim", 1) != 1 or not hasattr(values, "__len__"):
            continue
        table[name] = values
        info = infos.get(name)
        if info is not None and info.unit:
            table[name].unit = info.unit
        if info is not None and info.description:
            table[name].description = info.description
        if info is not None and info.ucd:
            table[name].meta["ucd"] = info.ucd
    return table


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


def _find_positions(names: list[str]) -> tuple[str, str] | None:
    lower = {name.lower().strip(): name for name in reversed(names)}
    ra = next((lower[name] for name in RA_NAMES if name in lower), None)
    dec = next((lower[name] for name in DEC_NAMES if name in lower), None)
    return None if ra is None or dec is None else (ra, dec)


def _match_positions(
    table: Table, label: str, release: Release, connect: Callable[[], Connections], radius: float
) -> Wanted:
    """Find the nearest Gaia source of each position."""
    names = _find_positions(table.colnames)
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
        from gaia_redshift.archive.positions import find_nearest

        source_id[usable], separation[usable] = find_nearest(
            connect(), ra[usable], dec[usable], release, radius
        )
    columns = table.copy(copy_data=False)
    columns["separation_gaia"] = separation
    columns["separation_gaia"].unit = "arcsec"
    columns["separation_gaia"].description = "Distance of the Gaia source from the position given"
    return Wanted(source_id, columns, source_id == 0)
