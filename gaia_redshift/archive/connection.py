"""The Gaia archive through astroquery's client: logged in if wanted, with clear failures."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gaia_redshift.archive.client import (
    OpenSockets,
    describe_failure,
    import_astroquery,
    in_one_line,
    make_connection,
    make_tap_plus,
    read_body,
    silent_astroquery,
)
from gaia_redshift.archive.failures import Answer, RefusedError
from gaia_redshift.archive.login import Credentials, Login, find_credentials
from gaia_redshift.archive.notes import Notes
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release, find_release
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.structures import StructureWord
from gaia_redshift.errors import InputError

__all__ = ["Connections", "open_gaia"]

logger = logging.getLogger(__name__)


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
    login : see `gaia_redshift.archive.login.find_credentials`
    settings : ArchiveSettings, optional
    timeout : float, s, optional
        Instead of the settings' one.

    Returns
    -------
    astroquery.gaia.GaiaClass
        Its methods raise `ArchiveError` where astroquery would hang or print. It is meant for
        queries and tables; its ``load_data`` still writes into the current folder, which
        `fetch_spectra` does not.

    Raises
    ------
    ArchiveError
        If logging in fails.
    """
    settings = settings or ArchiveSettings()
    return Connections(settings, login, timeout=timeout).make_client(find_release(release))


class Connections:
    """The connections of one call to the TAP and data services; logged in if asked to.

    Parameters
    ----------
    settings : ArchiveSettings
    login : see `gaia_redshift.archive.login.find_credentials`
    timeout : float, s, optional
        Instead of the settings' one.
    notes : Path, optional
        The root of the cache, for what is learnt of the servers.

    Raises
    ------
    ArchiveError
        If logging in fails.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        login: Login = None,
        *,
        timeout: float | None = None,
        notes: Path | None = None,
    ) -> None:
        self.settings = settings
        self.timeout = settings.timeout if timeout is None else timeout
        self.tap_host = urlsplit(settings.gaia_tap_url).netloc
        self.data_host = urlsplit(settings.gaia_data_url).netloc
        self.credentials = find_credentials(login, str(urlsplit(settings.gaia_tap_url).hostname))
        self.data_notes = Notes(notes, settings.gaia_data_url)
        self._structures: dict[str, StructureWord] = {}
        self._lock = threading.Lock()
        self._cookies: dict[str, str] = {}
        self._of_thread = threading.local()
        import_astroquery()  # now: its time shall not count against a deadline
        self._sockets = OpenSockets()
        if self.credentials is not None:
            self._log_in(self.credentials)

    @property
    def logged_in(self) -> bool:
        """Whether requests carry a session."""
        return bool(self._cookies)

    def find_structure(self, release: Release) -> StructureWord:
        """Return the word that the data service has for one row a source."""
        with self._lock:
            if release.name not in self._structures:
                self._structures[release.name] = StructureWord(release, self.data_notes)
            return self._structures[release.name]

    def make_client(self, release: Release) -> Any:
        """Return a ``GaiaClass`` on these connections."""
        gaia_class = import_astroquery()
        data = make_tap_plus(self.settings.gaia_data_url, self._make("data"))
        with silent_astroquery:
            client = gaia_class(
                tap_plus_conn_handler=self._make("tap"),
                datalink_handler=data,
                show_server_messages=False,
            )
        client.MAIN_GAIA_TABLE = release.source_table
        return client

    def abort(self) -> None:
        """Break off what other threads are waiting for."""
        self._sockets.shut()

    def post_tap(self, path: str, fields: dict[str, Any], files: Any = ()) -> Answer:
        """POST a form to the TAP service, with files to upload as (name, file name, text).

        Raises
        ------
        TransientError
            If no whole answer comes.
        """
        connection = self._get("tap")
        if files:
            kind, body = connection.encode_multipart(fields, files)
        else:
            kind, body = "application/x-www-form-urlencoded", urlencode(fields)
        return self._read(
            connection,
            lambda: connection.execute_tappost(path, body, kind),
            self.tap_host,
            f"POST {path}",
        )

    def get_tap(self, path: str, *, until: float | None = None) -> Answer:
        """GET from the TAP service, or from an address that it redirected to."""
        connection = self._get("tap")
        return self._read(
            connection,
            lambda: connection.execute_tapget(_relative_path(path, self.settings.gaia_tap_url)),
            self.tap_host,
            f"GET {path}",
            until,
        )

    def post_data(self, fields: dict[str, Any], *, until: float | None = None) -> Answer:
        """POST a form to the data service.

        Parameters
        ----------
        fields : dict
        until : float, optional
            ``time.monotonic()`` at which to stop reading.
        """
        connection = self._get("data")
        body = urlencode(fields)
        return self._read(
            connection,
            lambda: connection.execute_datapost(body),
            self.data_host,
            "POST data",
            until,
        )

    def _read(
        self,
        connection: Any,
        call: Callable[[], Any],
        host: str,
        what: str,
        until: float | None = None,
    ) -> Answer:
        started = time.monotonic()
        try:
            response = call()
            with closing(response):
                body = read_body(response, until)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise describe_failure(error, host, self.timeout) from error
        finally:
            connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers, body, host)
        seconds = time.monotonic() - started
        logger.debug("%s %s: %d, %d bytes, %.2f s", host, what, answer.status, len(body), seconds)
        return answer

    def _get(self, service: str) -> Any:
        """Return this thread's connection: astroquery's keeps the state of its last request."""
        found = getattr(self._of_thread, service, None)
        if found is None:
            found = self._make(service)
            setattr(self._of_thread, service, found)
        return found

    def _make(self, service: str) -> Any:
        url = self.settings.gaia_tap_url if service == "tap" else self.settings.gaia_data_url
        connection = make_connection(url, service, self.timeout, self._sockets)
        if service in self._cookies:
            connection.set_cookie(self._cookies[service])
        return connection

    def _log_in(self, credentials: Credentials) -> None:
        for service, url in (
            ("tap", self.settings.gaia_tap_url),
            ("data", self.settings.gaia_data_url),
        ):
            if urlsplit(url).scheme != "https":
                raise InputError(f"logging in needs an https address, not {url}")
            connection = self._make(service)
            client = make_tap_plus(url, connection)
            host = urlsplit(url).netloc
            try:
                with silent_astroquery:
                    client.login(user=credentials.user, password=credentials.password)
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, ssl.SSLError | TimeoutError | ConnectionError):
                    raise describe_failure(error, host, self.timeout) from None
                raise RefusedError(
                    f"{host} did not let '{credentials.user}' log in: {in_one_line(error)}"
                ) from None
            finally:
                connection.close()
            if connection.cookie is None:
                raise RefusedError(
                    f"{host} did not let '{credentials.user}' log in: it gave no session (down for"
                    " maintenance?)"
                )
            self._cookies[service] = connection.cookie


def _relative_path(path: str, tap_url: str) -> str:
    """Turn an address that the TAP service redirected to into a path below the service.

    Servers behind a proxy may call themselves by another name: it is the path that counts.
    """
    if not path.startswith("http"):
        return path
    parts = urlsplit(path)
    below = parts.path.removeprefix(urlsplit(tap_url).path.rstrip("/") + "/")
    return path if below == parts.path else below + (f"?{parts.query}" if parts.query else "")
