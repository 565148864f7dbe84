"""Spectra from a table of coefficients in a TAP service, instead of the archive's DataLink.

Mirrors of the Gaia archive have such a table; it is asked for ids in the text of plain queries.
What does not come is explained by the same service's tables, so that every id has its account.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.archive.failures import Answer, RefusedError, read_reason
from gaia_redshift.archive.jobs import submit_now
from gaia_redshift.archive.results import unpack
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.archive.connection import Connections

__all__ = ["MIRRORS", "Mirror", "ask_mirror", "use_mirror"]

IDS_AT_ONCE = 1000


@dataclass(frozen=True)
class Mirror:
    """The address of a TAP service, and its table that has the columns of DataLink's files."""

    url: str
    table: str = "gaiadr3.xp_continuous_mean_spectrum"


# Not confirmed: read in what users of these services have published, never tried from here.
MIRRORS = {
    "aip": Mirror("https://gaia.aip.de/tap"),
    "ari": Mirror("https://gaia.ari.uni-heidelberg.de/tap"),
}
"""Those known, by name."""


def use_mirror(name: str, settings: ArchiveSettings | None = None) -> ArchiveSettings:
    """Return settings that ask a mirror instead of the archive.

    Parameters
    ----------
    name : str
        One of ``MIRRORS``, or ``ADDRESS#TABLE`` of any TAP service with such a table (without
        ``#TABLE``, DR3's usual one).
    settings : ArchiveSettings, optional

    Returns
    -------
    ArchiveSettings

    Raises
    ------
    InputError
        If it is neither.
    """
    address, _, table = name.partition("#")
    mirror = MIRRORS.get(name.lower()) or (Mirror(address, table) if table else Mirror(address))
    if urlsplit(mirror.url).scheme not in ("http", "https"):
        raise InputError(
            f"no mirror '{name}'; known are {', '.join(MIRRORS)}, or the address of a TAP service"
        )
    if not re.fullmatch(r'[\w."]+', mirror.table):
        raise InputError(f"'{mirror.table}' is no name of a table")
    settings = settings or ArchiveSettings()
    return replace(
        settings,
        gaia_tap_url=mirror.url.rstrip("/"),
        gaia_data_url=mirror.url.rstrip("/"),
        spectra_table=mirror.table,
        chunk_size=min(settings.chunk_size, IDS_AT_ONCE),
    )


def ask_mirror(
    connections: Connections, source_id: NDArray[np.int64], until: float | None
) -> Answer:
    """Ask the table for a chunk of spectra; the answer is a VOTable."""
    table = connections.settings.spectra_table
    ids = ",".join(map(str, source_id.tolist()))
    adql = f"SELECT * FROM {table} WHERE source_id IN ({ids})"
    session = connections.tap
    with session.asking("the request for spectra", until):
        answer = submit_now(session, adql, maxrec=len(source_id) + 1)
    answer = replace(answer, body=unpack(answer.body, session.settings.largest_answer, answer.host))
    for place in (answer.body[:20_000], answer.body[-20_000:]):
        status: Any = re.search(rb'name="QUERY_STATUS"[^>]*value="ERROR"', place, re.IGNORECASE)
        if status:
            raise RefusedError(f"{answer.host} could not run the query: {read_reason(answer)}")
    return answer
