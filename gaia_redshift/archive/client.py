"""astroquery's connection to TAP+ servers, with time-outs; importing astroquery in silence.

astroquery itself has neither time-outs nor retries, prints errors, and contacts the archive when
it is imported (`import_astroquery` keeps it from that). Its ``TapConn`` and ``ConnectionHandler``
are subclassed here, in a function, because importing astroquery is slow.
"""

from __future__ import annotations

import http.client
import importlib
import logging
import socket
import ssl
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift._quiet import Shared, preserve_settings, silent_output
from gaia_redshift.archive.failures import Answer, RefusedError, TransientError, read_reason
from gaia_redshift.errors import ArchiveError

__all__ = [
    "OpenSockets",
    "describe_failure",
    "import_astroquery",
    "in_one_line",
    "make_connection",
    "make_tap_plus",
    "read_body",
    "silent_astroquery",
]

CONNECT_TIMEOUT = 10.0
"""Seconds within which a server must take a connection, if the time-out is no shorter."""
_PIECE = 1 << 20
_import_lock = threading.Lock()


class OpenSockets:
    """The sockets in use, for as long as they are, so that another thread can shut them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._broken_off = False

    def add(self, one: socket.socket) -> None:
        """Note a socket; refuse it if all has been broken off while it was being opened."""
        with self._lock:
            if self._broken_off:
                one.close()
                raise ConnectionAbortedError("broken off")
            self._known.add(one)

    def shut(self) -> None:
        """Break off all that is going on, for good."""
        with self._lock:
            self._broken_off = True
            for one in self._known:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=1)
def _connection_type() -> type[Any]:
    """Make the subclass of astroquery's connection, once astroquery is imported."""
    from astroquery.utils.tap.conn.tapconn import ConnectionHandler, TapConn

    class TimedHandler(ConnectionHandler):  # type: ignore[misc]
        """Opens connections that time out."""

        def __init__(self, host: str, port: int, timeout: float, sockets: Any) -> None:
            super().__init__(host, port, port)
            # What is being opened cannot be broken off: Ctrl-C would wait so long.
            shorter = min(timeout, CONNECT_TIMEOUT)
            self.make_plain = partial(http.client.HTTPConnection, host, port, timeout=shorter)
            self.make_secure = partial(http.client.HTTPSConnection, host, port, timeout=shorter)
            self.timeout = timeout
            self.sockets = sockets
            self.current: http.client.HTTPConnection | None = None

        def get_connection(
            self, *, ishttps: bool = False, cookie: str | None = None, verbose: bool = False
        ) -> http.client.HTTPConnection:
            if ishttps or cookie is not None:
                return self.get_connection_secure(verbose)
            return self.open(self.make_plain())

        def get_connection_secure(self, verbose: bool) -> http.client.HTTPConnection:
            return self.open(self.make_secure())

        def open(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
            """Connect at once, so that the socket can be shut from another thread."""
            if self.current is not None:  # astroquery has read its answer, and leaves it open
                self.current.close()
            connection.connect()
            connection.sock.settimeout(self.timeout)
            self.sockets.add(connection.sock)
            self.current = connection
            return connection

    class TimedConnection(TapConn):  # type: ignore[misc]
        """A connection that raises instead of printing, and knows its session."""

        def __init__(self, url: str, service: str, timeout: float, sockets: Any) -> None:
            parts = urlsplit(url)
            host, port, context, name = _split_url(url)
            self.handler = TimedHandler(host, port, timeout, sockets)
            secure = parts.scheme == "https"
            super().__init__(
                ishttps=secure,
                host=host,
                port=port,
                sslport=port,
                server_context=context,
                connhandler=self.handler,
                tap_context=name if service == "tap" else None,
                data_context=name if service == "data" else None,
                upload_context="Upload",
                table_edit_context="TableTool",
                datalink_context="datalink",
            )
            self.cookie: str | None = None

        def close(self) -> None:
            """Close the connection of the last request, which astroquery leaves open."""
            if self.handler.current is not None:
                self.handler.current.close()
                self.handler.current = None

        def set_cookie(self, cookie: str) -> None:
            self.cookie = cookie
            super().set_cookie(cookie)

        def check_launch_response_status(
            self, response: Any, debug: bool, expected: int, *, raise_exception: bool = True
        ) -> bool:
            if response.status == expected:
                return False
            if raise_exception:
                from requests import HTTPError

                reason = ""
                with suppress(OSError, http.client.HTTPException):
                    reason = read_reason(Answer(response.status, {}, read_body(response)))
                raise HTTPError(f"HTTP {response.status} {reason}".strip())
            return True

    return TimedConnection


def make_connection(url: str, service: str, timeout: float, sockets: OpenSockets) -> Any:
    """Return a connection to a TAP or data service.

    Parameters
    ----------
    url : str
    service : {"tap", "data"}
    timeout : float, s
    sockets : OpenSockets
        Told of every socket.
    """
    import_astroquery()
    return _connection_type()(url, service, timeout, sockets)


def _split_url(url: str) -> tuple[str, int, str | None, str]:
    """Cut an address into host, port, and the two parts of its path that astroquery wants."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    path = parts.path.strip("/")
    context, _, name = path.rpartition("/")
    return str(parts.hostname), port, context or None, name


def make_tap_plus(url: str, connection: Any) -> Any:
    """Return astroquery's ``TapPlus`` on a connection of `make_connection`."""
    from astroquery.utils.tap.core import TapPlus

    return TapPlus(url=url, connhandler=connection, use_names_over_ids=True)


def import_astroquery() -> Any:
    """Import ``astroquery.gaia`` without contacting the archive, and return its ``GaiaClass``.

    The module makes an instance when it is imported, which asks ESA's server for news, without
    time-out.
    """
    with _import_lock:
        if "astroquery.gaia.core" not in sys.modules:
            with preserve_settings(), silent_output:
                from astroquery.utils.tap.core import TapPlus

                with _RefuseNews(TapPlus):
                    importlib.import_module("astroquery.gaia.core")
        # Asked for again: what is found in sys.modules may be half made, by a thread of the user.
        return importlib.import_module("astroquery.gaia.core").GaiaClass


class _RefuseNews:
    """Let ``TapPlus`` make no requests for as long as this lasts."""

    def __init__(self, tap_plus: Any) -> None:
        self.tap_plus = tap_plus
        self.name = "_TapPlus__getconnhandler"

    def __enter__(self) -> None:
        self.before = getattr(self.tap_plus, self.name)

        def refuse(_: Any) -> Any:
            raise OSError("not asked at import")

        setattr(self.tap_plus, self.name, refuse)

    def __exit__(self, *_: object) -> None:
        setattr(self.tap_plus, self.name, self.before)


@contextmanager
def _quieten_astroquery() -> Iterator[None]:
    import astropy
    import astroquery

    loggers = [astropy.log, astroquery.log]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.ERROR)
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


silent_astroquery = Shared(_quieten_astroquery)
"""``with silent_astroquery:`` its log messages ("INFO: OK") stay off the user's terminal."""


def read_body(response: Any, until: float | None = None) -> bytes:
    """Read all of an HTTP response in pieces, so that a deadline is kept.

    Raises
    ------
    http.client.IncompleteRead
        If it ends before its stated length.
    http.client.HTTPException
        At the deadline.
    """
    stated = response.getheader("Content-Length")
    chunked = "chunked" in (response.getheader("Transfer-Encoding") or "").lower()
    left = int(stated) if stated and stated.isdigit() and not chunked else None
    if response.status in (204, 304):
        left = 0
    pieces: list[bytes] = []
    while left is None or left > 0:
        piece = response.read1(_PIECE if left is None else min(left, _PIECE))
        if not piece:
            if left:
                got = sum(map(len, pieces))
                raise http.client.IncompleteRead(b"", left + got)
            break
        pieces.append(piece)
        left = None if left is None else left - len(piece)
        if until is not None and time.monotonic() > until:
            raise http.client.HTTPException("was still sending at the deadline")
    return b"".join(pieces)


def describe_failure(  # noqa: PLR0911 (one per kind)
    error: Exception, host: str, timeout: float
) -> ArchiveError:
    """Return what to raise: in one line, why there is no answer."""
    if isinstance(error, ArchiveError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return RefusedError(f"{host}: its certificate cannot be verified: {error.verify_message}")
    if isinstance(error, TimeoutError):
        text = f"{host} did not answer within {timeout:g} s"
        return TransientError(text, answered=False)
    if isinstance(error, socket.gaierror):
        return TransientError(
            f"{host} cannot be found: is there a connection to the network?", answered=False
        )
    if isinstance(error, ConnectionRefusedError):
        return TransientError(f"{host} refuses connections", answered=False)
    if isinstance(error, http.client.IncompleteRead):
        return TransientError(f"{host} sent an answer that is cut short")
    if isinstance(error, http.client.RemoteDisconnected | ConnectionError):
        return TransientError(f"{host} closed the connection", answered=False)
    if isinstance(error, http.client.HTTPException | OSError):
        return TransientError(f"{host}: {in_one_line(error)}", answered=False)
    return RefusedError(f"{host}: {in_one_line(error)}")


def in_one_line(error: BaseException) -> str:
    """Return an error's message without line ends."""
    return " ".join(str(error).split())[:300] or type(error).__name__
