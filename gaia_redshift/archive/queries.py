"""Catalogue queries: ADQL files with values to fill in, as text or run against the archive.

The texts are in ``gaia_redshift/data/queries`` (``catalogs/queries`` points there). Each is a
complete query that runs as it stands. A line that ends in ``-- [name]`` or ``-- [name: a, b]`` is
one that an option of `build_query` keeps, leaves out or fills: the last numbers of the line are
replaced by the values of a, b. An exclamation mark after the name means that the line must stay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.jobs import run_query
from gaia_redshift.archive.releases import (
    DEFAULT_RELEASE,
    GALAXIES,
    QUASARS,
    RELEASES,
    Release,
    ReleaseTables,
    find_release,
    find_tables,
)
from gaia_redshift.archive.settings import ArchiveSettings, find_cache_root
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["build_query", "describe_queries", "query_catalogue"]

_TAG = re.compile(r"\s*--\s*\[(?P<name>\w+)(?P<must>!?)(?::\s*(?P<values>[\w, ]+))?\]\s*$")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def describe_queries() -> dict[str, str]:
    """Return the names of the queries, and what each is for.

    Examples
    --------
    >>> from gaia_redshift.archive import describe_queries
    >>> describe_queries()["cone"]
    'All sources in a circle on the sky'
    """
    return {name: text.splitlines()[0].removeprefix("--").strip() for name, text in _read().items()}


def build_query(
    name: str,
    *,
    cone: tuple[Any, ...] | None = None,
    magnitude: tuple[float, float] | None = None,
    public_xp: bool = True,
    pure: bool | None = None,
    clean: bool | None = None,
    with_ugc: bool | None = None,
    limit: int | None = None,
    release: str | Release = DEFAULT_RELEASE,
    tables: ReleaseTables | None = None,
    settings: Any = None,
    login: Any = None,
) -> str:
    """Return a catalogue query as ADQL.

    Parameters
    ----------
    name : str
        One of `describe_queries`: ``ugc_galaxies``, ``quasar_candidates``, ``cone``,
        ``brightness``, ``public_xp``.
    cone : (ra, dec, radius) or (SkyCoord, radius), optional
        Circle on the sky; numbers are degrees (ICRS).
    magnitude : (bright, faint), optional
        Limits of the G magnitude.
    public_xp : bool
        Only sources whose mean BP/RP spectrum can be fetched.
    pure : bool, optional
        ``ugc_galaxies`` and ``quasar_candidates``: only the purer selection; the default is True.
    clean : bool, optional
        ``quasar_candidates``: only redshifts without warning flags; the default is True.
    with_ugc : bool, optional
        Carry ``redshift_ugc`` and its bounds along; by default in ``ugc_galaxies`` alone.
    limit : int, optional
        Largest number of rows, which are then any of those that fit.
    release : str
        "DR3" or "DR4". The names of DR4's tables are a draft: the archive is asked for them, once.
    tables : ReleaseTables, optional
        What has been found of them before, as by ``gaia_redshift.archive.releases.find_tables``.
    settings, login
        As in `run_query`, where the archive is asked.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no such query, a value makes no sense, one is missing or does not belong.
    ArchiveError
        If the archive is asked and does not answer, or lacks a table or column.

    Examples
    --------
    >>> from gaia_redshift.archive import build_query
    >>> print(build_query("cone", cone=(266.4, -29.0, 0.1), public_xp=False))
    SELECT
      g.source_id, g.ra, g.dec, g.phot_g_mean_mag, g.phot_bp_mean_mag, g.phot_rp_mean_mag
      , g.has_xp_continuous
    FROM gaiadr3.gaia_source AS g
    WHERE 1 = CONTAINS(POINT('ICRS', g.ra, g.dec), CIRCLE('ICRS', 266.4, -29.0, 0.1))
    """
    texts = _read()
    if name not in texts:
        raise InputError(f"there is no query '{name}'; there are: {', '.join(texts)}")
    tags = {match["name"] for line in texts[name].splitlines() if (match := _TAG.search(line))}
    asked = {"pure": pure, "clean": clean}
    for option, value in asked.items():
        if value is not None and option not in tags:
            raise InputError(f"the query '{name}' has no option '{option}'")
    wanted: dict[str, Mapping[str, float] | bool] = {
        "cone": _read_cone(cone),
        "magnitude": _read_magnitude(magnitude),
        "limit": _read_limit(limit),
        "public_xp": bool(public_xp),
        "with_ugc": name == "ugc_galaxies" if with_ugc is None else bool(with_ugc),
        **{option: value is not False for option, value in asked.items()},
    }
    lines = []
    for line in texts[name].splitlines():
        match = _TAG.search(line)
        if match is None:
            if not line.startswith("--"):
                lines.append(line)
            continue
        values = wanted[match["name"]]
        if values is False:
            if match["must"]:
                raise InputError(f"the query '{name}' needs {match['name']}")
            continue
        code = line[: match.start()]
        lines.append(code if isinstance(values, bool) else _fill(code, match["values"], values))
    adql = "\n".join(lines)
    found = find_release(release)
    if found.name == DEFAULT_RELEASE and tables is None:
        return adql
    if tables is None:
        connections = Connections(settings or ArchiveSettings(), login, notes=find_cache_root())
        tables = find_tables(connections, found)
    return _name_tables(adql, tables)


def query_catalogue(
    name: str,
    *,
    settings: Any = None,
    login: Any = None,
    deadline: float | None = None,
    **options: Any,
) -> Table:
    """Run a catalogue query in the Gaia archive.

    Parameters
    ----------
    name : str
        As in `build_query`.
    settings, login, deadline
        As in `run_query`.
    **options
        As in `build_query`.

    Returns
    -------
    Table
        ``source_id`` (int64), position, magnitudes, and what the query is about. It can be given
        to `fetch_spectra` and `predict_table` as it is.

    Raises
    ------
    InputError
        As `build_query`.
    ArchiveError
        If the archive does not deliver.
    """
    adql = build_query(name, settings=settings, login=login, **options)
    table = run_query(adql, settings=settings, login=login, deadline=deadline)
    table.meta["query"] = " ".join(adql.split())
    return table


@cache
def _read() -> dict[str, str]:
    folder = resources.files("gaia_redshift") / "data" / "queries"
    files = sorted(
        (one for one in folder.iterdir() if one.name.endswith(".adql")), key=lambda one: one.name
    )
    return {one.name.removesuffix(".adql"): one.read_text(encoding="utf-8") for one in files}


def _fill(code: str, names: str, values: Mapping[str, float]) -> str:
    """Put values in place of the last numbers of a line."""
    wanted = [name.strip() for name in names.split(",")]
    numbers = list(_NUMBER.finditer(code))[-len(wanted) :]
    for match, name in reversed(list(zip(numbers, wanted, strict=True))):
        code = f"{code[: match.start()]}{values[name]!r}{code[match.end() :]}"
    return code


def _name_tables(adql: str, tables: ReleaseTables) -> str:
    """Give a query the names of a release, whose sources may be spread over several tables.

    ``g`` becomes the table with all positions, ``m`` that with magnitudes and ``f`` that with the
    flag, where these are others.
    """
    dr3 = RELEASES[DEFAULT_RELEASE]
    positions, magnitudes, flag = tables.find_positions(), "", None
    joins = {}
    if "g.phot_" in adql and (magnitudes := tables.find_magnitudes()) != positions:
        joins["m"] = magnitudes
        adql = adql.replace("g.phot_", "m.phot_")
    if "g.has_xp_continuous" in adql:
        flag = tables.find_flag()
        if flag.table != positions:
            joins["f"] = flag.table
        alias = "f" if "f" in joins else "g"
        adql = adql.replace(
            "g.has_xp_continuous = 'True'", f"{alias}.{flag.column or 'source_id'} {flag.condition}"
        )
        adql = (
            adql.replace("g.has_xp_continuous", f"{alias}.{flag.column}")
            if flag.column
            else re.sub(r"\n *, g\.has_xp_continuous", "", adql)
        )
    joined = "".join(
        f"\nLEFT OUTER JOIN {table} AS {alias} ON {alias}.source_id = g.source_id"
        for alias, table in joins.items()
    )
    adql = re.sub(
        rf"{dr3.schema}\.gaia_source AS g.*", lambda m: m[0].rstrip() + joined, adql
    ).replace(f"{dr3.schema}.gaia_source", positions)
    for table in (GALAXIES, QUASARS):
        for match in re.finditer(rf"{dr3.schema}\.{table} AS (\w)", adql):
            used = set(re.findall(rf"\b{match[1]}\.(\w+)", adql))
            _check_columns(table, used, tables)
    return adql.replace(f"{dr3.schema}.", f"{tables.release.schema}.")


def _check_columns(table: str, used: set[str], tables: ReleaseTables) -> None:
    missing = sorted(name for name in used if not tables.has(table, name))
    if not missing:
        return
    if table not in tables.columns:
        tables.lack("which sources are galaxies or quasars", (table,), "redshift%")
    redshifts = ", ".join(tables.list_redshifts(table)) or "none"
    raise InputError(
        f"{tables.name(table)} has no column {', '.join(missing)} (of redshifts it has:"
        f" {redshifts}); options that need them are pure, clean and with_ugc: switch them off, or"
        f" look with SELECT column_name FROM TAP_SCHEMA.columns WHERE table_name ="
        f" '{tables.name(table)}'"
    )


def _read_cone(cone: tuple[Any, ...] | None) -> Mapping[str, float] | bool:
    if cone is None:
        return False
    parts = list(cone)
    if len(parts) == 2 and hasattr(parts[0], "icrs"):
        parts = [parts[0].icrs.ra, parts[0].icrs.dec, parts[1]]
    if len(parts) != 3:
        raise InputError("cone must be (ra, dec, radius) or (SkyCoord, radius)")
    ra, dec, radius = (_to_degrees(part) for part in parts)
    if not (math.isfinite(ra) and abs(dec) <= 90):
        raise InputError(f"cone: there is no position {ra:g}, {dec:g} (degrees)")
    if not 0 < radius <= 180:
        raise InputError(f"cone: the radius must be from 0 to 180 degrees, not {radius:g}")
    return {"ra": ra % 360.0, "dec": dec, "radius": radius}


def _to_degrees(value: Any) -> float:
    try:
        return float(value.to_value("deg") if hasattr(value, "to_value") else value)
    except (TypeError, ValueError) as error:  # astropy's UnitConversionError is both
        raise InputError(f"cone: {value!r} is no angle in degrees") from error


def _read_magnitude(magnitude: tuple[float, float] | None) -> Mapping[str, float] | bool:
    if magnitude is None:
        return False
    try:
        bright, faint = (float(value) for value in magnitude)
    except (TypeError, ValueError) as error:
        raise InputError("magnitude must be (bright, faint)") from error
    if not (math.isfinite(bright) and math.isfinite(faint) and bright < faint):
        raise InputError(f"magnitude: {bright:g} is not brighter than {faint:g}")
    return {"bright": bright, "faint": faint}


def _read_limit(limit: int | None) -> Mapping[str, float] | bool:
    if limit is None:
        return False
    if isinstance(limit, bool) or int(limit) != limit or limit < 1:
        raise InputError(f"limit must be a whole number of rows, not {limit!r}")
    return {"limit": int(limit)}
