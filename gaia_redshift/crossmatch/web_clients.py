"""The usual clients of CDS and SDSS services on a `TimedSession`, with answers that are checked.

They are subclassed in functions, because importing astroquery is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift._files import one_line
from gaia_redshift._quiet import ignore_warnings, silent_output
from gaia_redshift.archive.failures import TransientError
from gaia_redshift.errors import ArchiveError
from gaia_redshift.readers.votable import parse_votable

__all__ = ["read_quietly", "skyserver_type", "xmatch_type"]


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


@lru_cache(maxsize=1)
def xmatch_type() -> type[Any]:
    """Make the subclass of astroquery's ``XMatchClass``."""
    with silent_output:  # it prints that it would like the package regions
        from astroquery.xmatch import XMatchClass

    class CheckedXMatch(_OnSession, XMatchClass):  # type: ignore[misc]
        """Does not ask for the list of all tables of VizieR first."""

        table = ""
        """The one that is asked for."""

        def get_available_tables(self, *, cache: bool = False) -> list[str]:
            return [self.table]

    return CheckedXMatch


@lru_cache(maxsize=1)
def skyserver_type() -> type[Any]:
    """Make the subclass of astroquery's ``SDSSClass``."""
    from astroquery.sdss import SDSSClass

    class CheckedSkyServer(_OnSession, SDSSClass):  # type: ignore[misc]
        """Checks each answer, which astroquery reads whatever its status."""

    return CheckedSkyServer


def read_quietly(read: Callable[[], Any], url: str) -> Any:
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
