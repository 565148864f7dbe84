"""The usual clients of CDS and SDSS services, with time-outs and with answers that are checked.

They are subclassed in functions, because importing astroquery and pyvo is slow.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift._quiet import ignore_warnings, silent_output
from gaia_redshift.archive.failures import Answer, TransientError, check_answer
from gaia_redshift.errors import ArchiveError

__all__ = ["read_quietly", "session_type", "skyserver_type", "xmatch_type"]


@lru_cache(maxsize=1)
def xmatch_type() -> type[Any]:
    """Make the subclass of astroquery's ``XMatchClass``."""
    with silent_output:  # it prints that it would like the package regions
        from astroquery.xmatch import XMatchClass

    class CheckedXMatch(XMatchClass):  # type: ignore[misc]
        """Checks each answer, and does not ask for the list of all tables of VizieR first."""

        table = ""
        """The one that is asked for."""

        def get_available_tables(self, *, cache: bool = False) -> list[str]:
            return [self.table]

        def _request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            kwargs["cache"] = False  # it would keep and replay whatever came with HTTP 200
            return _check_response(
                lambda: super(CheckedXMatch, self)._request(method, url, *args, **kwargs), url
            )

    return CheckedXMatch


class _Body(io.BytesIO):
    """A whole body that is read as pyvo reads a socket."""

    def read(self, size: int | None = -1, decode_content: bool | None = None) -> bytes:
        return super().read(size)


@lru_cache(maxsize=1)
def session_type() -> type[Any]:
    """Make a session for pyvo."""
    import requests

    class TimedSession(requests.Session):
        """A session with a time-out whose failures say what happened."""

        def __init__(self, timeout: float) -> None:
            super().__init__()
            self.timeout = timeout

        def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("timeout", self.timeout)
            kwargs["stream"] = False  # so that a body cut short is noticed here
            response = _check_response(
                lambda: super(TimedSession, self).request(method, url, *args, **kwargs), str(url)
            )
            response.raw = _Body(response.content)  # which is what pyvo reads
            return response

    return TimedSession


@lru_cache(maxsize=1)
def skyserver_type() -> type[Any]:
    """Make the subclass of astroquery's ``SDSSClass``."""
    from astroquery.sdss import SDSSClass

    class CheckedSkyServer(SDSSClass):  # type: ignore[misc]
        """Checks each answer, which astroquery reads whatever its status."""

        def _request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            kwargs["cache"] = False
            return _check_response(
                lambda: super(CheckedSkyServer, self)._request(method, url, *args, **kwargs), url
            )

    return CheckedSkyServer


def _check_response(call: Callable[[], Any], url: str) -> Any:
    """Make a request with ``requests``; return its response if it is what was asked for.

    Raises
    ------
    ArchiveError
        In one line.
    """
    import requests

    host = urlsplit(url).netloc
    try:
        response = call()
        body = response.content
    except requests.Timeout as error:
        raise TransientError(f"{host} did not answer in time", answered=False) from error
    except requests.RequestException as error:
        reason = "sent an answer that is cut short" if _is_cut(error) else "closed the connection"
        if isinstance(error, requests.ConnectionError) and "refused" in str(error):
            reason = "refuses connections"
        raise TransientError(f"{host} {reason}", answered=False) from error
    headers = {name.lower(): value for name, value in response.headers.items()}
    check_answer(Answer(response.status_code, headers, body, host), what="the cross-match")
    return response


def _is_cut(error: Exception) -> bool:
    return "IncompleteRead" in str(error)


def read_quietly(read: Callable[[], Any], url: str) -> Any:
    """Let a client ask and read; what it cannot read is a damaged answer.

    Raises
    ------
    TransientError, ArchiveError
    """
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
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        kind = type(error).__name__
        if kind in ("RemoteServiceError", "DALQueryError", "InvalidQueryError"):
            raise ArchiveError(f"{host} refused the cross-match: {reason}") from error
        raise TransientError(f"{host} sent a damaged answer ({reason})") from error
