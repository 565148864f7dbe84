"""Which tables and columns a release has in a server, found in its ``TAP_SCHEMA``.

What is known of a release before it is open is a draft. So the server is asked once which of the
candidates of `gaia_redshift.archive.releases` there are; the answer is noted for a week.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.account import FetchStatus
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import Patience, RefusedError, TransientError
from gaia_redshift.archive.jobs import ask_now
from gaia_redshift.archive.releases import GALAXIES, NEIGHBOURS, QUASARS, Release
from gaia_redshift.errors import ArchiveError

__all__ = [
    "Flag",
    "ReleaseTables",
    "check_open",
    "explain_missing",
    "find_tables",
    "forget_tables",
    "read_truth",
]

_WEEK = 7 * 86_400.0
_TRUTH = ("boolean", "bool", "bit", "char", "varchar", "unicodechar", "text", "string")
MOST_COLUMNS = 20_000
IDS_AT_ONCE = 1000
"""Ids in a query: they go in its text, because uploads count against a quota."""


@dataclass(frozen=True)
class Flag:
    """Where a release says that a source has a mean spectrum: in no column where a row is enough.

    ``condition`` is ADQL, after the column's name.
    """

    table: str
    column: str
    condition: str


class ReleaseTables:
    """Tables of a release: by name without schema, the data types of their columns.

    ``host`` is whose they are, for messages.
    """

    def __init__(
        self, release: Release, columns: Mapping[str, Mapping[str, str]], host: str = ""
    ) -> None:
        self.release = release
        self.columns = columns
        self.host = host

    @classmethod
    def of_published(cls, release: Release) -> ReleaseTables:
        """Return what is published of a release."""
        columns = {}
        for table, names in release.columns.items():
            pairs = [name.partition(":") for name in names.split()]
            columns[table] = {name: kind or "number" for name, _, kind in pairs}
        return cls(release, columns)

    def name(self, table: str) -> str:
        """Return a table's full name."""
        return f"{self.release.schema}.{table}"

    def has(self, table: str, *names: str) -> bool:
        """Tell whether there is a table with these columns."""
        return table in self.columns and all(name in self.columns[table] for name in names)

    def find_flag(self) -> Flag:
        """Return where it stands that a source has a mean spectrum."""
        for candidate in self.release.flags:
            table, _, column = candidate.partition(".")
            if not column and self.has(table, "source_id"):
                return Flag(self.name(table), "", "IS NOT NULL")
            if column and self.has(table, "source_id", column):
                kind = self.columns[table][column].lower().split("(")[0].strip()
                condition = "= 'True'" if kind in _TRUTH else "> 0"
                return Flag(self.name(table), column, condition)
        self.lack("which sources have a mean XP spectrum", self.release.flags, "%xp%")

    def find_positions(self) -> str:
        """Return the full name of the table with all positions."""
        return self._find(self.release.positions, "ra", "dec", what="the positions of all sources")

    def find_magnitudes(self) -> str:
        """Return the full name of the table with all magnitudes."""
        what = "the magnitudes of all sources"
        return self._find(self.release.magnitudes, "phot_g_mean_mag", what=what)

    def find_neighbours(self) -> str:
        """Return the full name of the table that leads from DR3's ids to these."""
        return self._find((NEIGHBOURS,), "dr3_source_id", what="which ids DR3's sources have")

    def _find(self, tables: tuple[str, ...], *columns: str, what: str) -> str:
        for table in tables:
            if self.has(table, "source_id", *columns):
                return self.name(table)
        self.lack(what, tables, columns[0])

    def list_redshifts(self, table: str) -> list[str]:
        """Return the columns of a table that are about redshift."""
        return [name for name in self.columns.get(table, {}) if "redshift" in name]

    def lack(self, what: str, tried: tuple[str, ...], like: str) -> NoReturn:
        """Say what was not found, and how to look it up."""
        raise RefusedError(
            f"{self.host or 'the archive'} has no table known to this version that says {what} in"
            f" {self.release.label} (tried {', '.join(map(self.name, tried))}); look it up with"
            " SELECT table_name, column_name FROM TAP_SCHEMA.columns WHERE table_name LIKE"
            f" '{self.release.schema}.%' AND column_name LIKE '{like}', and update the package"
        )


def find_tables(
    connections: Connections,
    release: Release,
    patience: Patience | None = None,
    *,
    refresh: bool = False,
) -> ReleaseTables:
    """Return the tables of a release: published, noted from an earlier call, or asked for now.

    ``refresh`` asks again, also about a release whose tables are published.
    """
    if release.confirmed and not refresh:
        return ReleaseTables.of_published(release)
    key = f"tables {release.name}"
    with connections.asking_tables:
        noted = None if refresh else connections.tap_notes.get(key, _WEEK)
        if isinstance(noted, dict) and all(isinstance(value, dict) for value in noted.values()):
            return ReleaseTables(release, noted, connections.tap_host)
        settings = connections.settings
        patience = patience or Patience(settings, settings.query_deadline)
        columns = _ask_schema(connections, release, patience)
        connections.tap_notes.put(key, columns)
        return ReleaseTables(release, columns, connections.tap_host)


def forget_tables(connections: Connections, release: Release) -> None:
    """Ask again next time: the server does not know what it had."""
    connections.tap_notes.put(f"tables {release.name}", None)


def _ask_schema(
    connections: Connections, release: Release, patience: Patience
) -> dict[str, dict[str, str]]:
    names = [candidate.partition(".")[0] for candidate in release.flags]
    names += [*release.positions, *release.magnitudes, GALAXIES, QUASARS, NEIGHBOURS]
    listed = ", ".join(f"'{release.schema}.{name}'" for name in dict.fromkeys(names))
    adql = (
        "SELECT table_name, column_name, datatype FROM TAP_SCHEMA.columns"
        f" WHERE table_name IN ({listed})"
    )
    asked = ("table_name", "column_name", "datatype")
    rows = ask_now(connections.tap, adql, patience.renew(), maxrec=MOST_COLUMNS, columns=asked)
    columns: dict[str, dict[str, str]] = {}
    for row in rows:
        table, column, kind = (str(row[name]).strip().lower() for name in asked)
        columns.setdefault(table.rpartition(".")[2], {})[column.strip('"')] = kind
    if not columns:
        raise RefusedError(
            f"{connections.tap_host} has no tables of {release.label} (none of {listed}): is the"
            " release open there? DR4 opens on 2 December 2026; look for its tables with SELECT"
            " table_name FROM TAP_SCHEMA.tables WHERE table_name LIKE"
            f" '%{release.name.lower()}%'"
        )
    return columns


def check_open(connections: Connections, release: Release, patience: Patience) -> None:
    """Raise a refusal if a release whose names are a draft is not in the archive at all."""
    if release.confirmed:
        return
    try:
        find_tables(connections, release, patience)
    except RefusedError:
        raise
    except ArchiveError:  # the tables' server does not answer either: nothing is known
        return


def read_truth(column: Any) -> np.ndarray:
    """Read truth as servers write it: booleans, numbers, or words; a null is no."""
    array: np.ma.MaskedArray[Any, Any] = np.ma.asarray(column)
    if array.dtype.kind in "biuf":
        return np.asarray(np.ma.filled(array, 0) != 0)
    hidden = np.ma.getmaskarray(array)
    words = [str(value).strip().lower() for value in array.data.tolist()]
    pattern = re.compile(r"b?'?(true|t|1)'?")
    return np.array([bool(pattern.fullmatch(word)) for word in words], dtype=bool) & ~hidden


def explain_missing(
    connections: Connections, source_id: NDArray[np.int64], release: Release, patience: Patience
) -> NDArray[np.int8]:
    """Ask the release's tables why sources (n,) got no spectrum.

    Return ``NO_PUBLIC_XP``, ``UNKNOWN_ID``, or ``PENDING`` for those that should have one.
    """
    if patience.left <= 0:
        raise TransientError(f"{connections.data_host} was too slow to say which sources it has")
    tables = find_tables(connections, release, patience)
    flag = tables.find_flag()
    status = np.full(len(source_id), FetchStatus.UNKNOWN_ID, dtype=np.int8)
    try:
        if flag.column:
            known, has_xp = _look_up(connections, source_id, flag.table, flag.column, patience)
        else:
            known, _ = _look_up(connections, source_id, tables.find_positions(), "", patience)
            found, _ = _look_up(connections, source_id, flag.table, "", patience)
            known = np.union1d(known, found)
            has_xp = np.isin(known, found)
    except RefusedError:
        forget_tables(connections, release)
        raise
    status[np.isin(source_id, known)] = FetchStatus.NO_PUBLIC_XP
    status[np.isin(source_id, known[has_xp])] = FetchStatus.PENDING
    return status


def _look_up(
    connections: Connections,
    source_id: NDArray[np.int64],
    table: str,
    column: str,
    patience: Patience,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which of the ids a table has, and whether a column is true of them."""
    chosen = f"source_id, {column} AS has_xp" if column else "source_id"
    known, truth = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=bool)]
    for start in range(0, len(source_id), IDS_AT_ONCE):
        ids = source_id[start : start + IDS_AT_ONCE]
        adql = (
            f"SELECT {chosen} FROM {table} WHERE source_id IN ({','.join(map(str, ids.tolist()))})"
        )
        # Its own tries: those of the chunk count what DataLink fails at.
        result = ask_now(
            connections.tap,
            adql,
            patience.renew(),
            maxrec=len(ids) + 1,
            columns=("source_id", "has_xp") if column else ("source_id",),
        )
        known.append(np.ma.filled(np.ma.asarray(result["source_id"]), 0).astype(np.int64))
        truth.append(read_truth(result["has_xp"]) if column else np.ones(len(result), bool))
    return np.concatenate(known), np.concatenate(truth)
