"""What the archive calls things in each data release: the one place for such names.

What is known of a release before it is open is a draft. So a server is asked once, in its
``TAP_SCHEMA``, which of the candidates there are; the answer is noted for a week.
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
from gaia_redshift.errors import ArchiveError, InputError

__all__ = [
    "DEFAULT_RELEASE",
    "GALAXIES",
    "NEIGHBOURS",
    "QUASARS",
    "RELEASES",
    "Flag",
    "Release",
    "ReleaseTables",
    "check_open",
    "explain_missing",
    "find_release",
    "find_tables",
    "read_truth",
]

DEFAULT_RELEASE = "DR3"
_WEEK = 7 * 86_400.0
_TRUTH = ("boolean", "bool", "bit", "char", "varchar", "unicodechar", "text", "string")
MOST_COLUMNS = 20_000
IDS_AT_ONCE = 1000
"""Ids in a query: they go in its text, because uploads count against a quota."""


@dataclass(frozen=True)
class Release:
    """Names of one data release, and candidates for those that the archive is asked about.

    Parameters
    ----------
    label, retrieval_type : str
        DataLink's names for the release and for mean BP/RP spectra as coefficients.
    data_structures : tuple of str
        DataLink's names for "one file, one row a source", the newest first.
    schema : str
        Prefix of its tables.
    flags : tuple of str
        Where it may stand that a source has a mean spectrum: ``table.column``, or ``table`` where a
        row is enough. Tables of all sources come first, as in ``positions`` and ``magnitudes``.
    columns : mapping of str to mapping
        Tables whose columns are published: data types of those that are used, by name.
    bases : str
        The sets of basis functions, in words.
    confirmed : bool
        Whether these names are published; else the archive's ``TAP_SCHEMA`` is asked which of the
        candidates there are (`find_tables`).
    """

    name: str
    label: str
    retrieval_type: str
    data_structures: tuple[str, ...]
    schema: str
    flags: tuple[str, ...]
    positions: tuple[str, ...]
    magnitudes: tuple[str, ...]
    columns: Mapping[str, Mapping[str, str]]
    bases: str
    confirmed: bool

    @property
    def source_table(self) -> str:
        """The main table."""
        return f"{self.schema}.gaia_source"


GALAXIES, QUASARS, NEIGHBOURS = "galaxy_candidates", "qso_candidates", "dr3_neighbourhood"
"""Tables that have the same name in each release that has them."""

RELEASES = {
    "DR3": Release(
        name="DR3",
        label="Gaia DR3",
        retrieval_type="XP_CONTINUOUS",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr3",
        flags=("gaia_source.has_xp_continuous", "xp_summary"),
        positions=("gaia_source",),
        magnitudes=("gaia_source",),
        columns={
            "gaia_source": {
                **dict.fromkeys(("source_id", "ra", "dec", "phot_g_mean_mag"), "number"),
                **dict.fromkeys(("phot_bp_mean_mag", "phot_rp_mean_mag"), "number"),
                "has_xp_continuous": "boolean",
            }
        },
        bases="Hermite functions, 55 BP + 55 RP coefficients",
        confirmed=True,
    ),
    # Not confirmed: DR4 opens on 2 December 2026. The retrieval type is the one that astroquery
    # lists; tables and columns are those of ESA's draft of its data model (June 2026), where
    # gaia_source has no flag for XP spectra and lacks sources without good astrometry, as many
    # galaxies are; those after them follow DR3.
    "DR4": Release(
        name="DR4",
        label="Gaia DR4",
        retrieval_type="MEAN_SPECTRUM_XP",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr4",
        flags=(
            "all_source_flags.has_xp",
            "all_source_flags.has_xp_continuous",
            "gaia_source.has_xp_continuous",
            "gaia_source.has_xp",
            "xp_summary",
            "xp_continuous_mean_spectrum",
        ),
        positions=("all_source_astrometry", "gaia_source"),
        magnitudes=("all_source_photometry", "gaia_source"),
        columns={},
        bases="told by each spectrum's number of coefficients (51 + 55 expected)",
        confirmed=False,
    ),
}
"""The releases known, by name."""


def find_release(name: str | Release) -> Release:
    """Return the release of this name ("DR3", "dr3", "Gaia DR3")."""
    if isinstance(name, Release):
        return name
    short = str(name).upper().replace("GAIA", "").replace(" ", "").replace("_", "")
    if short not in RELEASES:
        raise InputError(f"no data release '{name}'; known are {', '.join(RELEASES)}")
    return RELEASES[short]


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
        return ReleaseTables(release, release.columns)
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
    except RefusedError:  # the server does not know what it had: ask again next time
        connections.tap_notes.put(f"tables {release.name}", None)
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
