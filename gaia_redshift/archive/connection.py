"""The services of the Gaia archive: logged in if wanted, with what is known of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gaia_redshift.archive.client import (
    Handler,
    import_astroquery,
    make_connection,
    silent_astroquery,
)
from gaia_redshift.archive.failures import Answer, RefusedError, read_reason
from gaia_redshift.archive.login import Credentials, Login, find_credentials
from gaia_redshift.archive.notes import Notes
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release, find_release
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.structures import StructureWord
from gaia_redshift.archive.web import TimedSession
from gaia_redshift.errors import InputError

__all__ = ["Connections", "open_gaia"]


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
        Its methods raise `ArchiveError` where astroquery would hang. It is meant for queries and
        tables; its ``load_data`` still writes into the current folder, which `fetch_spectra` does
        not.

    Raises
    ------
    ArchiveError
        If logging in fails.
    """
    settings = settings or ArchiveSettings()
    return Connections(settings, login, timeout=timeout).make_client(find_release(release))


class Connections:
    """The TAP and data services for one call; logged in if asked to.

    ``timeout`` (s) counts instead of the settings' one; ``notes`` is the root of the cache, where
    what is learnt of the servers is kept.
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
        # Two sessions: the services give cookies of the same name.
        self.tap = TimedSession(settings.gaia_tap_url, settings, timeout)
        self.data = TimedSession(settings.gaia_data_url, settings, timeout)
        self.tap_host, self.data_host = self.tap.host, self.data.host
        self.data_notes = Notes(notes, settings.gaia_data_url)
        self.tap_notes = Notes(notes, settings.gaia_tap_url)
        self._structures: dict[str, StructureWord] = {}
        self._lock = threading.Lock()
        self.asking_tables = threading.Lock()
        # Now: the time of importing astroquery shall not count against a deadline.
        self._handlers = {"tap": Handler(self.tap), "data": Handler(self.data)}
        self._connections = {
            service: make_connection(handler, service)
            for service, handler in self._handlers.items()
        }
        if settings.tap_token and self.tap.url.startswith("https:"):
            self.tap.headers["Authorization"] = f"Token {settings.tap_token}"
        if settings.spectra_table and login is not None:
            raise InputError("a mirror takes no login: set GAIA_REDSHIFT_TAP_TOKEN where it asks")
        self.credentials = find_credentials(login, str(urlsplit(settings.gaia_tap_url).hostname))
        if self.credentials is not None:
            self._log_in(self.credentials)

    @property
    def logged_in(self) -> bool:
        """Whether requests carry a session."""
        return self.credentials is not None

    def find_structure(self, release: Release) -> StructureWord:
        """Return the word that the data service has for one row a source."""
        with self._lock:
            if release.name not in self._structures:
                self._structures[release.name] = StructureWord(release, self.data_notes)
            return self._structures[release.name]

    def make_client(self, release: Release) -> Any:
        """Return a ``GaiaClass`` on these connections."""
        gaia_class = import_astroquery()
        with silent_astroquery:
            client = gaia_class(
                tap_plus_conn_handler=self._connections["tap"],
                datalink_handler=self._make_tap_plus("data"),
                show_server_messages=False,
            )
        client.MAIN_GAIA_TABLE = release.source_table
        return client

    def abort(self) -> None:
        """Break off what other threads are waiting for."""
        self.tap.abort()
        self.data.abort()

    def post_data(self, fields: dict[str, Any], *, until: float | None = None) -> Answer:
        """POST a form to the data service, and give up at a ``time.monotonic()``."""
        with self.data.asking("", until):
            return self._connections["data"].execute_datapost(urlencode(fields)).answer

    def _make_tap_plus(self, service: str) -> Any:
        from astroquery.utils.tap import TapPlus

        connection = self._connections[service]
        session = self.tap if service == "tap" else self.data
        return TapPlus(url=session.url, connhandler=connection, use_names_over_ids=True)

    def _log_in(self, credentials: Credentials) -> None:
        from requests import HTTPError

        for service, session in (("tap", self.tap), ("data", self.data)):
            if urlsplit(session.url).scheme != "https":
                raise InputError(f"logging in needs an https address, not {session.url}")
            refused = f"{session.host} did not let '{credentials.user}' log in"
            try:
                with silent_astroquery:
                    self._make_tap_plus(service).login(
                        user=credentials.user, password=credentials.password
                    )
            except HTTPError:
                answer = self._handlers[service].getresponse().answer
                said = read_reason(answer)
                raise RefusedError(f"{refused}: HTTP {answer.status} {said}".strip()) from None
            if not session.cookies:
                raise RefusedError(f"{refused}: it gave no session (down for maintenance?)")
