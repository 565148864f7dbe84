"""What a caller asks for, as source ids: ids, a query, a table with ids or with positions.

Positions get the nearest Gaia source, and DR3's ids those that they became in a later release.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import Patience, RefusedError
from gaia_redshift.archive.jobs import ask_now, run_query
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release, find_tables, read_truth
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import choose_ids, find_position_names, tell_unused_ids
from gaia_redshift.readers.files import read_ids
from gaia_redshift.readers.sources import is_id, is_id_list, is_query, is_sky_coord
from gaia_redshift.readers.tables import is_table, to_astropy
from gaia_redshift.readers.values import find_placed, to_degrees, to_source_ids
from gaia_redshift.tables.types import simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["AskedSources", "bring_over", "find_nearest", "resolve_sources"]

logger = logging.getLogger(__name__)


@dataclass
class AskedSources:
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
) -> AskedSources:
    """Turn what was asked for into source ids: ids, ADQL, a table, SkyCoord, or the path of ids.

    ``connect`` opens connections where a query is needed; ``radius`` (arcsec) is how far the Gaia
    source may be from a position; ``notice`` is told how long a query has been waiting.
    """
    if is_query(sources):
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
        return AskedSources(to_source_ids(column, "source_id"))
    if hasattr(sources, "__len__") and len(sources) == 0:
        raise InputError("no source_id given")
    if getattr(getattr(sources, "dtype", None), "kind", "") == "f":
        return AskedSources(
            to_source_ids(np.asarray(sources), "source_id")
        )  # says what floats lose
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
) -> AskedSources:
    if not len(table):
        raise InputError(f"{label}: has no rows")
    name = choose_ids(table.colnames, lambda name: np.ma.asarray(table[name][:100]))
    if name is None:
        tell_unused_ids(table.colnames, label)
        return _match_positions(table, label, release, connect, radius)
    source_id = to_source_ids(simplify_column(table[name], name), label)
    rest = table.copy(copy_data=False)
    rest.remove_column(name)
    return AskedSources(source_id, rest if rest.colnames else None)


def _match_positions(
    table: Table, label: str, release: Release, connect: Callable[[], Connections], radius: float
) -> AskedSources:
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
    usable = find_placed(ra, dec)
    source_id = np.zeros(len(table), dtype=np.int64)
    separation = np.full(len(table), np.nan)
    if usable.any():
        source_id[usable], separation[usable] = find_nearest(
            connect(), ra[usable], dec[usable], release, radius
        )
    columns = table.copy(copy_data=False)
    columns["separation_gaia"] = separation
    columns["separation_gaia"].unit = "arcsec"
    columns["separation_gaia"].description = "Distance of the Gaia source from the position given"
    return AskedSources(source_id, columns, source_id == 0)


POSITIONS_AT_ONCE = 5000
FEW_POSITIONS = 100
"""Up to so many are asked for at once and without an upload, which counts against a quota."""
CONES_AT_ONCE = 50
MOST_IN_CONES = 5000
IDS_AT_ONCE = 500
_MOST_NEIGHBOURS = 20


def find_nearest(
    connections: Connections,
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    release: Release,
    radius: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest source (0: none) of positions (n,) in degrees, and its distance in arcsec.

    ``radius`` is in arcsec; the distance is NaN where there is no source within it.
    """
    from astropy.table import Table, vstack

    table = find_tables(connections, release).find_positions()
    ask = _ask_with_upload if len(ra) > FEW_POSITIONS else _ask_with_cones
    results = []
    for start in range(0, len(ra), POSITIONS_AT_ONCE):
        rows = np.arange(start, min(start + POSITIONS_AT_ONCE, len(ra)))
        positions = Table({"row_number": rows, "ra": ra[rows], "dec": dec[rows]})
        try:
            results.append(ask(connections, table, positions, radius))
        except RefusedError as error:
            if ask is _ask_with_cones or "quota" not in str(error):
                raise
            logger.warning("%s; asking without an upload, which takes longer", error)
            ask = _ask_with_cones
            results.append(ask(connections, table, positions, radius))
    found = vstack(results, metadata_conflicts="silent")
    source_id, separation = np.zeros(len(ra), dtype=np.int64), np.full(len(ra), np.nan)
    if len(found):
        order = np.argsort(np.asarray(found["separation"]), kind="stable")[::-1]  # nearest last
        rows = np.asarray(found["row_number"])[order].astype(np.intp)
        source_id[rows] = np.asarray(found["source_id"])[order]
        separation[rows] = np.asarray(found["separation"])[order] * 3600
    return source_id, separation


def _ask_with_upload(
    connections: Connections, table: str, positions: Table, radius: float
) -> Table:
    """Return row_number, source_id and separation (deg) of all sources near uploaded positions."""
    adql = (
        "SELECT p.row_number, g.source_id,"
        " DISTANCE(POINT('ICRS', p.ra, p.dec), POINT('ICRS', g.ra, g.dec)) AS separation"
        f" FROM TAP_UPLOAD.positions AS p JOIN {table} AS g"
        " ON 1 = CONTAINS(POINT('ICRS', g.ra, g.dec),"
        f" CIRCLE('ICRS', p.ra, p.dec, {radius / 3600:.10f}))"
    )
    return run_query(adql, upload={"positions": positions}, connections=connections)


def _ask_with_cones(connections: Connections, table: str, positions: Table, radius: float) -> Table:
    """Return the same with the positions in the text of queries."""
    from astropy.coordinates import angular_separation
    from astropy.table import Table, vstack

    parts = []
    for start in range(0, len(positions), CONES_AT_ONCE):
        some = positions[start : start + CONES_AT_ONCE]
        cones = " OR ".join(
            f"1 = CONTAINS(POINT('ICRS', ra, dec),"
            f" CIRCLE('ICRS', {a:.12f}, {d:.12f}, {radius / 3600:.10f}))"
            for a, d in zip(some["ra"].tolist(), some["dec"].tolist(), strict=True)
        )
        near = ask_now(
            connections.tap,
            f"SELECT source_id, ra, dec FROM {table} WHERE {cones}",
            Patience(connections.settings, connections.settings.query_deadline),
            maxrec=MOST_IN_CONES,
            columns=("source_id", "ra", "dec"),
        )
        ra, dec = (np.asarray(near[name], dtype=float) for name in ("ra", "dec"))
        here = (np.radians(np.asarray(some[name])[:, None]) for name in ("ra", "dec"))
        separation = np.degrees(angular_separation(*here, np.radians(ra), np.radians(dec)))
        rows, sources = np.nonzero(separation <= radius / 3600)
        parts.append(
            Table(
                {
                    "row_number": np.asarray(some["row_number"])[rows],
                    "source_id": np.asarray(near["source_id"], dtype=np.int64)[sources],
                    "separation": separation[rows, sources],
                }
            )
        )
    return vstack(parts)


def bring_over(asked: AskedSources, release: Release, connections: Connections) -> AskedSources:
    """Replace DR3's ids by those that the same sources have in a later release.

    Of several neighbours the one that the table calls probable is taken, else the nearest; those
    without any have no Gaia source. The columns have ``dr3_source_id`` and ``separation_dr3``
    (arcsec) in addition.
    """
    from astropy.table import Table

    if release.name == DEFAULT_RELEASE:
        raise InputError("ids of DR3 are brought over to a later release: give --release DR4")
    table = find_tables(connections, release).find_neighbours()
    old_ids = asked.source_id
    distinct = np.unique(old_ids[old_ids > 0])
    best: dict[int, tuple[int, float]] = {}
    for start in range(0, len(distinct), IDS_AT_ONCE):
        ids = distinct[start : start + IDS_AT_ONCE]
        names = ("dr3_source_id", "source_id", "angular_distance", "probable_match")
        rows = ask_now(
            connections.tap,
            f"SELECT {', '.join(names)} FROM {table}"
            f" WHERE dr3_source_id IN ({','.join(map(str, ids.tolist()))})",
            Patience(connections.settings, connections.settings.query_deadline),
            maxrec=_MOST_NEIGHBOURS * len(ids),
            columns=names,
        )
        old, new = (np.asarray(rows[name], dtype=np.int64) for name in names[:2])
        far = np.ma.filled(np.ma.asarray(rows["angular_distance"]).astype(float), np.inf)
        best_last = np.lexsort((new, far, ~read_truth(rows["probable_match"])))[::-1]
        for row in best_last.tolist():
            best[int(old[row])] = int(new[row]), float(far[row])
    found = [best.get(one) for one in old_ids.tolist()]
    source_id = np.array([one[0] if one else 0 for one in found], dtype=np.int64)
    columns = Table() if asked.columns is None else asked.columns.copy(copy_data=False)
    columns["dr3_source_id"] = old_ids
    columns["separation_dr3"] = [one[1] / 1000 if one else np.nan for one in found]
    columns["separation_dr3"].unit = "arcsec"
    columns["separation_dr3"].description = "Distance of the DR3 source from this one"
    return AskedSources(source_id, columns, source_id == 0)
