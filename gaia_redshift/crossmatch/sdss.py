"""SDSS redshifts near given positions, from CDS XMatch, TAPVizieR or SkyServer.

Each service is asked in chunks, with time-outs and retries, through its usual client (astroquery,
pyvo), whose answers are checked before the client reads them. What they return is the catalogue's
objects near the sources; `gaia_redshift.crossmatch.matching` decides which is which.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._display import open_bar
from gaia_redshift._files import one_line
from gaia_redshift._quiet import ignore_warnings, silent_output
from gaia_redshift.archive.failures import Patience, TransientError, parse_result, to_votable
from gaia_redshift.archive.jobs import submit_now
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.web import TimedSession
from gaia_redshift.crossmatch.catalogues import COLUMNS, find_names, to_objects
from gaia_redshift.crossmatch.matching import ARCSEC, SkyObjects
from gaia_redshift.errors import ArchiveError, InputError
from gaia_redshift.readers.values import find_placed
from gaia_redshift.readers.votable import parse_votable

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["SERVICES", "VIZIER_TABLE", "fetch_sdss_objects"]

VIZIER_TABLE = "V/154/sdss16"
"""SDSS DR16, photometry with the spectra's redshifts."""
SKYSERVER_RELEASE = 17
POSITIONS_AT_ONCE = 10_000
_MARGIN = 0.05
"""Arcsec more than the radius are asked for, in case the service rounds; the exact cut is ours."""
_CELL = 0.5
_LONGEST_SQL = 1500
"""SkyServer takes queries in the address, which servers limit to 2,048 characters."""

Asker = Callable[[NDArray[np.float64], NDArray[np.float64], float, TimedSession], "Iterator[Any]"]


def fetch_sdss_objects(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    radius: float,
    *,
    service: str,
    settings: ArchiveSettings | None,
    progress: bool,
) -> SkyObjects:
    """Return the objects of SDSS within a radius (arcsec) of positions (n,) in degrees.

    ``settings.query_deadline`` is the longest time for one chunk.
    """
    settings = settings or ArchiveSettings()
    usable = find_placed(ra, dec)
    places = np.unique(np.column_stack((ra[usable] % 360, dec[usable])), axis=0)
    parts: list[SkyObjects] = []
    address, list_steps, _ = SERVICES[service]
    session = TimedSession(getattr(settings, address), settings)
    steps = list_steps(places[:, 0], places[:, 1], radius, session)
    for ask in open_bar(list(steps), desc=f"SDSS ({service})", disable=not progress):
        patience = Patience(settings, settings.query_deadline)
        with session.asking("the cross-match", patience.ends):
            table = patience.run(ask)
        if table is None or not len(table):
            continue
        try:
            names = find_names(list(table.colnames), COLUMNS["sdss"], service)
        except InputError as error:
            raise ArchiveError(
                f"{service} sent a table without the columns expected: {error}"
            ) from None
        missing = [what for what in ("zwarning", "class") if what not in names]
        if missing:
            raise ArchiveError(f"{service} sent a table without a column for {missing[0]}")
        parts.append(to_objects({what: table[name] for what, name in names.items()}, service))
    return _drop_repeated(SkyObjects.join(parts))


def _drop_repeated(objects: SkyObjects) -> SkyObjects:
    """Keep one of the rows that neighbouring chunks both returned."""
    if not len(objects):
        return objects
    keys = np.rec.fromarrays(
        [objects.ra, objects.dec, np.nan_to_num(objects.redshift, nan=-9), objects.identifier]
    )
    _, first = np.unique(keys, return_index=True)
    return objects[np.sort(first)]


def _chunk_positions(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Iterator[Table]:
    from astropy.table import Table

    for start in range(0, len(ra), POSITIONS_AT_ONCE):
        piece = slice(start, start + POSITIONS_AT_ONCE)
        yield Table({"gaia_ra": ra[piece], "gaia_dec": dec[piece]})


# --- clients -----------------------------------------------------------------------------------


class _OnSession:
    """What makes a client of astroquery send its requests through ``session``, uncached.

    astroquery would keep and replay whatever came with HTTP 200.
    """

    session: Any = None

    def _request(self, method: str, url: str, *_: Any, **fields: Any) -> Any:
        sent = {key: fields.get(key) for key in ("params", "data", "files", "headers")}
        response = self.session.request(method, url, **sent)
        body = response.raw.getvalue()
        if body.lstrip().startswith(b"<"):  # a VOTable may name files that astropy would open
            parse_votable(body, f"the answer of {self.session.host}")
        return response


def _open_client(service: str, name: str, session: TimedSession) -> Any:
    """Return a client of astroquery on a session; a class made here, as its import is slow."""
    with silent_output:  # it prints that it would like the package regions
        kind = getattr(importlib.import_module(f"astroquery.{service}"), name)
    client = type(name, (_OnSession, kind), {})()
    client.session = session
    return client


def _read_quietly(read: Callable[[], Any], url: str) -> Any:
    """Let a client ask and read; what it cannot read is a damaged answer."""
    host = urlsplit(url).netloc
    try:
        with ignore_warnings():  # oddities of VOTables that do not stop astropy
            return read()
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:  # the clients' parsers raise anything
        cause: BaseException | None = error
        while cause is not None:  # clients wrap what happened on the way
            if isinstance(cause, ArchiveError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        reason = one_line(error)
        kind = type(error).__name__
        if kind in ("RemoteServiceError", "DALQueryError", "InvalidQueryError"):
            raise ArchiveError(f"{host} refused the cross-match: {reason}") from error
        raise TransientError(f"{host} sent a damaged answer ({reason})") from error


# --- CDS XMatch -------------------------------------------------------------------------------


def _ask_xmatch(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float, session: TimedSession
) -> Iterator[Callable[[], Table]]:
    from astropy import units

    client = _open_client("xmatch", "XMatchClass", session)
    client.URL = session.url
    client.get_available_tables = lambda **_: [VIZIER_TABLE]  # else it asks for VizieR's list

    def ask(positions: Table) -> Table:
        return _read_quietly(
            lambda: client.query(
                cat1=positions,
                cat2=f"vizier:{VIZIER_TABLE}",
                max_distance=(radius + _MARGIN) * units.arcsec,
                colRA1="gaia_ra",
                colDec1="gaia_dec",
                cache=False,
            ),
            session.url,
        )

    for positions in _chunk_positions(ra, dec):
        yield partial(ask, positions)


# --- TAPVizieR --------------------------------------------------------------------------------


def _ask_tapvizier(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float, session: TimedSession
) -> Iterator[Callable[[], Table]]:
    adql = (
        "SELECT s.objID, s.RA_ICRS, s.DE_ICRS, s.mode, s.zsp, s.e_zsp, s.f_zsp, s.spCl"
        f' FROM TAP_UPLOAD.sources AS u JOIN "{VIZIER_TABLE}" AS s'
        " ON 1 = CONTAINS(POINT('ICRS', s.RA_ICRS, s.DE_ICRS),"
        f" CIRCLE('ICRS', u.gaia_ra, u.gaia_dec, {(radius + _MARGIN) * ARCSEC:.10f}))"
    )

    def ask(positions: Table) -> Table:
        files = {"sources": to_votable(positions)}
        answer = submit_now(session, adql, files, maxrec=2_000_000)
        table, overflow = parse_result(answer, session.settings.largest_answer)
        if overflow:
            raise ArchiveError(f"{session.host} cut its answer at {len(table):,} rows")
        return table

    for positions in _chunk_positions(ra, dec):
        yield partial(ask, positions)


# --- SkyServer --------------------------------------------------------------------------------


_address_lock = threading.Lock()
"""astroquery has one address of SkyServer for the whole process."""


def _ask_skyserver(
    ra: NDArray[np.float64], dec: NDArray[np.float64], radius: float, session: TimedSession
) -> Iterator[Callable[[], Table | None]]:
    from astroquery.sdss import conf

    client, url = _open_client("sdss", "SDSSClass", session), session.url

    def ask(where: str) -> Table | None:
        # n_rows tells whether all rows came: a csv cut short looks like a whole one.
        sql = (
            "SELECT s.specObjID, s.bestObjID, s.ra, s.dec, s.z, s.zErr, s.zWarning, s.class,"
            f" COUNT(*) OVER () AS n_rows FROM SpecObj AS s WHERE {where}"
        )

        def run() -> Table | None:
            with _address_lock, conf.set_temp("skyserver_baseurl", url):
                return client.query_sql(sql, data_release=SKYSERVER_RELEASE, cache=False)

        table = _read_quietly(run, url)
        if table is not None and (
            "n_rows" not in table.colnames or len(table) != table["n_rows"][0]
        ):
            raise TransientError(f"{urlsplit(url).netloc} sent only part of the rows")
        return table

    boxes = list(_list_boxes(ra, dec, (radius + _MARGIN) * ARCSEC))
    while boxes:
        where = boxes.pop()
        while boxes and len(where) + len(boxes[-1]) < _LONGEST_SQL - 200:
            where += f" OR {boxes.pop()}"
        yield partial(ask, where)


def _list_boxes(ra: NDArray[np.float64], dec: NDArray[np.float64], reach: float) -> Iterator[str]:
    """Put boxes around the positions of each cell of half a degree, as conditions in SQL."""
    row = np.floor((dec + 90) / _CELL)
    wide = _CELL / np.maximum(np.cos(np.radians(dec)), 0.01)
    column = np.floor(ra / wide)
    _, cell = np.unique(np.column_stack((row, column)), axis=0, return_inverse=True)
    cell = np.ravel(cell)
    for number in range(int(cell.max(initial=-1)) + 1):
        inside = cell == number
        low, high = dec[inside].min() - reach, dec[inside].max() + reach
        band = f"s.dec BETWEEN {low:.7f} AND {high:.7f}"
        steepest = max(abs(low), abs(high))
        if steepest > 89.9:
            yield f"({band})"
            continue
        margin = reach / np.cos(np.radians(steepest))
        left, right = ra[inside].min() - margin, ra[inside].max() + margin
        yield f"({band} AND s.ra BETWEEN {left:.7f} AND {right:.7f})"
        if left < 0:
            yield f"({band} AND s.ra >= {left + 360:.7f})"
        if right >= 360:
            yield f"({band} AND s.ra <= {right - 360:.7f})"


_DR16 = f"SDSS DR16, VizieR {VIZIER_TABLE}"
SERVICES: dict[str, tuple[str, Asker, str]] = {
    "xmatch": ("xmatch_url", _ask_xmatch, f"{_DR16} (CDS XMatch)"),
    "tapvizier": ("vizier_tap_url", _ask_tapvizier, f"{_DR16} (TAPVizieR)"),
    "skyserver": (
        "skyserver_url",
        _ask_skyserver,
        f"SDSS DR{SKYSERVER_RELEASE} SpecObj (SkyServer)",
    ),
}
"""For each service the setting with its address, the function that makes its requests, and what it
has, in words."""
