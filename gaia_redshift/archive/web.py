"""Requests over HTTP for every service: one clock, a bound on bytes, and failures in one line.

`TimedSession` is a session of ``requests`` that astroquery and pyvo take as well. A deadline holds
whatever a server does (a byte now and then, in the body, in the headers or while a connection is
made secure): a timer shuts the socket, which is also how another thread breaks off a request. A
redirect is followed on the same server alone, so that no session goes elsewhere. Proxies of the
environment (``HTTPS_PROXY``, ``NO_PROXY``) are used.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from gaia_redshift._files import one_line
from gaia_redshift.archive.failures import (
    Answer,
    RefusedError,
    TransientError,
    UnknownHostError,
    check_answer,
)
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import ArchiveError

__all__ = ["TimedSession", "to_answer"]

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds within which a server must take a connection, if the time-out is no shorter."""
_PIECE = 1 << 18
_MOVED = (301, 302, 303, 307, 308)


class _Sockets:
    """The sockets in use, so that a timer or another thread can shut them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._of_thread = threading.local()
        self.broken_off = False

    def use(self, one: Any) -> None:
        """Note a socket of this thread's; refuse it if all is broken off."""
        with self._lock:
            if self.broken_off:
                raise ConnectionAbortedError("broken off")
            self._known.add(one)
        self.mine.append(weakref.ref(one))

    @property
    def mine(self) -> list[Any]:
        """Those of this thread's request."""
        if not hasattr(self._of_thread, "used"):
            self._of_thread.used = []
        return self._of_thread.used

    def shut_all(self) -> None:
        with self._lock:
            self.broken_off = True
            for one in self._known:
                _shut(one)


def _shut(one: Any) -> None:
    # Not the method of a secure socket: that would take part of it away from the reading thread.
    with suppress(OSError, TypeError):  # it has been closed, or is gone
        socket.socket.shutdown(one, socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Makes connections that are known to `_Sockets`, and trusts what the system trusts."""

    def __init__(self, sockets: _Sockets) -> None:
        def track(kind: Any) -> Any:
            class Tracked(kind):  # type: ignore[misc]
                # Servers close a connection after the answer, as they are asked to, but some a
                # moment later: a request sent in that moment would be lost.
                is_connected = False

                def connect(self) -> None:
                    super().connect()
                    sockets.use(self.sock)

            return Tracked

        class SecureSocket(ssl.SSLSocket):
            def do_handshake(self, *args: Any, **kwargs: Any) -> None:
                sockets.use(self)
                super().do_handshake(*args, **kwargs)

        class Plain(urllib3.HTTPConnectionPool):
            ConnectionCls = track(urllib3.HTTPConnectionPool.ConnectionCls)

        class Secure(urllib3.HTTPSConnectionPool):
            ConnectionCls = track(urllib3.HTTPSConnectionPool.ConnectionCls)

        self._pools = {"http": Plain, "https": Secure}
        # Certificates of the system and of SSL_CERT_FILE, beside those that requests brings.
        self._context = ssl.create_default_context()
        self._context.sslsocket_class = SecureSocket
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, ssl_context=self._context, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _Body(io.BytesIO):
    """A whole body that is read as pyvo and requests read a socket."""

    def read(self, size: int | None = -1, decode_content: bool | None = None) -> bytes:
        return super().read(size)


class TimedSession(requests.Session):
    """A session whose answers are read whole, or fail in one line.

    ``timeout``, the longest time in seconds without a byte, counts instead of the settings' one.
    """

    def __init__(self, url: str, settings: ArchiveSettings, timeout: float | None = None) -> None:
        super().__init__()
        self.url = url.rstrip("/")
        self.host = urlsplit(url).netloc
        self.settings = settings
        self.timeout = settings.timeout if timeout is None else timeout
        self._sockets = _Sockets()
        self._task = threading.local()
        self.headers["Accept-Encoding"] = "identity"  # what is packed may unpack to anything
        self.headers["Connection"] = "close"  # requests are few and large, or far apart
        adapter = _Adapter(self._sockets)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def abort(self) -> None:
        """Break off what any thread is waiting for, for good."""
        self._sockets.shut_all()

    @contextmanager
    def asking(self, what: str, until: float | None = None) -> Iterator[None]:
        """Make this thread's requests for something, in words, until a ``time.monotonic()``.

        Answers other than that are refused; with no words, they are only read.
        """
        before = getattr(self._task, "value", ("", None))
        self._task.value = what, until
        try:
            yield
        finally:
            self._task.value = before

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Make a request and read its answer, which may lead elsewhere on the same server."""
        kwargs["timeout"] = (min(self.timeout, CONNECT_TIMEOUT), self.timeout)
        kwargs["stream"] = True
        follow = kwargs.pop("allow_redirects", True) and str(method).upper() in ("GET", "HEAD")
        longest = max(self.settings.deadline, self.settings.query_deadline)
        what, until = getattr(self._task, "value", ("", None))
        until = time.monotonic() + longest if until is None else until
        for _ in range(6):
            response = self._ask_once(until, method, url, *args, allow_redirects=False, **kwargs)
            if not (follow and response.status_code in _MOVED and "location" in response.headers):
                break
            url = self.rebase(urljoin(response.url, response.headers["location"]))
            args, kwargs["params"] = (), None
        if what:
            expected = (200, 201, 202, 204, *_MOVED)
            check_answer(to_answer(response), what=what, expected=expected)
        return response

    def rebase(self, target: str) -> str:
        """Return an address, of a redirect or a job, as one of this server; refuse one elsewhere.

        Servers behind a proxy may call themselves by another name: a path of the service counts.
        """
        here, there = urlsplit(self.url), urlsplit(urljoin(f"{self.url}/", target))
        if (there.scheme, there.netloc) == (here.scheme, here.netloc) or (
            there.scheme == "https" and there.hostname == here.hostname
        ):
            return there.geturl()
        if there.path.startswith(f"{here.path}/"):
            return there._replace(scheme=here.scheme, netloc=here.netloc).geturl()
        raise RefusedError(f"{self.host} redirects to {there.hostname}, which is not followed")

    def _ask_once(self, until: float, method: Any, url: Any, *args: Any, **kw: Any) -> Any:
        started = time.monotonic()
        if until <= started:
            raise TransientError(f"{self.host}: no time left to ask", answered=False)
        used = self._sockets.mine
        used.clear()
        late, done = threading.Event(), threading.Event()

        def watch() -> None:
            wait = until - started
            while not done.wait(wait):
                late.set()
                wait = 0.1  # what is only being opened has no socket yet
                for reference in list(used):
                    _shut(reference())

        watcher = threading.Thread(target=watch, name="gaia_redshift deadline", daemon=True)
        watcher.start()
        try:
            response = super().request(method, url, *args, **kw)
            with response:
                body = self._read(response)
            if late.is_set() or self._sockets.broken_off:  # what was shut looks like an end
                raise ConnectionAbortedError
        except Exception as error:  # requests, urllib3, http.client and ssl have many
            if late.is_set():
                raise TransientError(f"{self.host} was still sending at the deadline") from error
            raise describe_failure(error, self.host, self.timeout) from error
        finally:
            done.set()
            watcher.join()
        response.raw = _Body(body)  # for pyvo; reading it must not take it away from us
        seconds = time.monotonic() - started
        path = urlsplit(str(url)).path
        logger.debug(
            "%s %s: %d, %d bytes, %.2f s", method, path, response.status_code, len(body), seconds
        )
        return response

    def _read(self, response: requests.Response) -> bytes:
        pieces, n = [], 0
        for piece in response.raw.stream(_PIECE, decode_content=True):
            pieces.append(piece)
            n += len(piece)
            if n > self.settings.largest_answer:
                raise RefusedError(
                    f"{self.host} sent more than {self.settings.largest_answer / 1e9:.3g} GB: ask"
                    " for less, or set a larger ArchiveSettings.largest_answer"
                )
        stated = response.headers.get("content-length", "")
        packed = response.headers.get("content-encoding") or response.status_code in (204, 304)
        if stated.isdigit() and not packed and n != int(stated):
            raise http.client.IncompleteRead(b"", int(stated) - n)
        return b"".join(pieces)


def to_answer(response: requests.Response) -> Answer:
    """Return a response as an `Answer`."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    host = urlsplit(response.url).netloc
    return Answer(response.status_code, headers, response.raw.getvalue(), host)


def _iter_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what is behind it, however it was wrapped; the innermost last."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # Not what it came in the middle of, which may be an earlier failure of ours.
        waiting += [getattr(one, "reason", None), *one.args, one.__cause__]


def describe_failure(  # noqa: PLR0911 (one per kind)
    error: BaseException, host: str, timeout: float
) -> ArchiveError:
    """Return what to raise: in one line, why there is no answer."""
    causes = list(_iter_causes(error))

    def find(*kinds: type[BaseException]) -> Any:
        return next((one for one in causes if isinstance(one, kinds)), None)

    if (ours := find(ArchiveError)) is not None:
        return ours
    if (unknown := find(ssl.SSLCertVerificationError)) is not None:
        return RefusedError(f"{host}: its certificate cannot be verified: {unknown.verify_message}")
    if find(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        text = (
            f"{host} cannot be reached through the proxy that the environment names (HTTPS_PROXY)"
        )
        return TransientError(text, answered=False)
    if find(socket.gaierror):
        return UnknownHostError(
            f"{host} cannot be found: is there a connection to the network?", answered=False
        )
    if find(ConnectionRefusedError):
        return TransientError(f"{host} refuses connections", answered=False)
    if find(TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError):
        return TransientError(f"{host} did not answer within {timeout:g} s", answered=False)
    if find(http.client.IncompleteRead, urllib3.exceptions.IncompleteRead):
        return TransientError(f"{host} sent an answer that is cut short")
    if find(http.client.RemoteDisconnected, ConnectionError, ssl.SSLEOFError):
        return TransientError(f"{host} closed the connection", answered=False)
    return TransientError(f"{host}: {one_line(causes[-1])}", answered=False)
