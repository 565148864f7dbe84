"""`open_gaia`: astroquery's client of the archive, on our session by the handlers that it takes.

astroquery has neither time-outs nor retries, and takes what makes connections as an argument: so
its requests, its login and its DataLink go through our session. Importing ``astroquery.gaia``
contacts the archive (it makes an instance, which asks for news): `import_astroquery` does not.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

from gaia_redshift._quiet import Shared, preserve_settings, silent_output
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import Answer
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release, find_release
from gaia_redshift.archive.settings import ArchiveSettings, Login
from gaia_redshift.archive.web import TimedSession, to_answer

__all__ = ["import_astroquery", "open_gaia"]

_import_lock = threading.Lock()


def open_gaia(
    *,
    release: str | Release = DEFAULT_RELEASE,
    login: Login = None,
    settings: ArchiveSettings | None = None,
    timeout: float | None = None,
) -> Any:
    """Return astroquery's client of the Gaia archive, with time-outs.

    Parameters
    ----------
    release : str
        "DR3" or "DR4": its ``MAIN_GAIA_TABLE``.
    login : see `gaia_redshift.archive.settings.find_credentials`
    settings : ArchiveSettings, optional
    timeout : float, s, optional
        Instead of the settings' one.

    Returns
    -------
    astroquery.gaia.GaiaClass
        Its methods raise `ArchiveError` where astroquery would hang. It is meant for queries and
        tables; its ``load_data`` still writes into the current folder, which `fetch_spectra` does
        not.

    Raises
    ------
    ArchiveError
        If logging in fails.
    """
    connections = Connections(settings or ArchiveSettings(), login, timeout=timeout)
    gaia_class = import_astroquery()
    from astroquery.utils.tap import TapPlus

    with silent_astroquery:
        data = _make_connection(connections.data, "data")
        client = gaia_class(
            tap_plus_conn_handler=_make_connection(connections.tap, "tap"),
            datalink_handler=TapPlus(
                url=connections.data.url, connhandler=data, use_names_over_ids=True
            ),
            show_server_messages=False,
        )
    client.MAIN_GAIA_TABLE = find_release(release).source_table
    return client


class Response(io.BytesIO):
    """An answer as astroquery reads one of ``http.client``."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(answer.body)
        self.answer = answer
        self.status, self.reason = answer.status, reason

    def getheaders(self) -> list[tuple[str, str]]:
        """Return names and values."""
        return list(self.answer.headers.items())


class Handler:
    """Gives astroquery connections, each of which is a request through the session."""

    def __init__(self, session: TimedSession) -> None:
        self.session = session
        self._of_thread = threading.local()

    def get_connection(self, **_: Any) -> Handler:
        """Return what makes requests."""
        return self

    def get_connection_secure(self, *_: Any, **__: Any) -> Handler:
        """Return the same: the session's address says whether it is secure."""
        return self

    @property
    def host(self) -> str:
        """The host, for astroquery's messages."""
        return self.session.host

    port = ""

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> None:
        """Make a request."""
        url = self.session.rebase(urljoin(self.session.url, path))
        kept = {name: value for name, value in (headers or {}).items() if name != "Cookie"}
        response = self.session.request(method, url, data=body, headers=kept, allow_redirects=False)
        self._of_thread.response = Response(to_answer(response), str(response.reason))

    def getresponse(self) -> Response:
        """Return the answer to this thread's last request."""
        return self._of_thread.response


def _make_connection(session: TimedSession, service: str) -> Any:
    """Return astroquery's ``TapConn`` of a service, "tap" or "data"."""
    from astroquery.utils.tap.conn.tapconn import TapConn

    parts = urlsplit(session.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    context, _, name = parts.path.strip("/").rpartition("/")
    return TapConn(
        ishttps=parts.scheme == "https",
        host=str(parts.hostname),
        port=port,
        sslport=port,
        server_context=context or None,
        connhandler=Handler(session),
        tap_context=name if service == "tap" else None,
        data_context=name if service == "data" else None,
        upload_context="Upload",
        table_edit_context="TableTool",
        datalink_context="datalink",
    )


def import_astroquery() -> Any:
    """Import ``astroquery.gaia`` without contacting the archive, and return its ``GaiaClass``."""
    with _import_lock:
        if "astroquery.gaia.core" not in sys.modules:
            with preserve_settings(), silent_output, _without_news():
                importlib.import_module("astroquery.gaia.core")
        # Asked for again: what is found in sys.modules may be half made, by a thread of the user.
        return importlib.import_module("astroquery.gaia.core").GaiaClass


@contextmanager
def _without_news() -> Iterator[None]:
    """Let this thread's requests of astroquery fail at once, as without a network."""
    from astroquery.utils.tap.conn.tapconn import TapConn

    before, importing = TapConn.execute_tapget, threading.get_ident()

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == importing:
            raise OSError("not asked at import")
        return before(self, *args, **kwargs)

    TapConn.execute_tapget = refuse
    try:
        yield
    finally:
        TapConn.execute_tapget = before


@contextmanager
def _quieten_astroquery() -> Iterator[None]:
    import astropy
    import astroquery

    loggers = [astropy.log, astroquery.log]
    before = [one.level for one in loggers]
    try:
        with silent_output:
            for one in loggers:
                one.setLevel(logging.ERROR)
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


silent_astroquery = Shared(_quieten_astroquery)
"""``with silent_astroquery:`` its log messages ("INFO: OK") stay off the user's terminal."""
