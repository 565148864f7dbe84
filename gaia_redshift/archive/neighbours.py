"""Ids of DR3 brought over to a later release, by its table of neighbours."""

from __future__ import annotations

import numpy as np

from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import Patience
from gaia_redshift.archive.jobs import ask_now
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release
from gaia_redshift.archive.tables import find_tables, read_truth
from gaia_redshift.archive.wanted import Wanted
from gaia_redshift.errors import InputError

__all__ = ["bring_over"]

IDS_AT_ONCE = 500
_MOST_NEIGHBOURS = 20


def bring_over(wanted: Wanted, release: Release, connections: Connections) -> Wanted:
    """Replace DR3's ids by those that the same sources have in a later release.

    Of several neighbours the one that the table calls probable is taken, else the nearest; those
    without any have no Gaia source. The columns have ``dr3_source_id`` and ``separation_dr3``
    (arcsec) in addition.
    """
    from astropy.table import Table

    if release.name == DEFAULT_RELEASE:
        raise InputError("ids of DR3 are brought over to a later release: give --release DR4")
    table = find_tables(connections, release).find_neighbours()
    asked = wanted.source_id
    distinct = np.unique(asked[asked > 0])
    best: dict[int, tuple[bool, float, int]] = {}
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
        probable = read_truth(rows["probable_match"])
        distance = [
            np.inf if one is None or one is np.ma.masked else float(one)
            for one in rows["angular_distance"].tolist()
        ]
        for old, new, likely, far in zip(
            rows["dr3_source_id"].tolist(),
            rows["source_id"].tolist(),
            probable.tolist(),
            distance,
            strict=True,
        ):
            rank = (not likely, far, new)
            best[old] = min(best.get(old, rank), rank)
    found = [best.get(one) for one in asked.tolist()]
    source_id = np.array([one[2] if one else 0 for one in found], dtype=np.int64)
    columns = Table() if wanted.columns is None else wanted.columns.copy(copy_data=False)
    columns["dr3_source_id"] = asked
    columns["separation_dr3"] = [one[1] / 1000 if one else np.nan for one in found]
    columns["separation_dr3"].unit = "arcsec"
    columns["separation_dr3"].description = "Distance of the DR3 source from this one"
    return Wanted(source_id, columns, source_id == 0)
