"""The services of the Gaia archive: logged in if wanted, with what is known of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift.archive.failures import Answer, RefusedError, read_reason
from gaia_redshift.archive.login import Credentials, Login, find_credentials
from gaia_redshift.archive.notes import Notes
from gaia_redshift.archive.releases import Release
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.structures import StructureWord
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import InputError

__all__ = ["Connections"]


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

    def abort(self) -> None:
        """Break off what other threads are waiting for."""
        self.tap.abort()
        self.data.abort()

    def post_data(self, fields: dict[str, Any], *, until: float | None = None) -> Answer:
        """POST a form to the data service, and give up at a ``time.monotonic()``."""
        with self.data.asking("", until):
            return to_answer(self.data.post(self.data.url, data=fields))

    def _log_in(self, credentials: Credentials) -> None:
        for session in (self.tap, self.data):
            if urlsplit(session.url).scheme != "https":
                raise InputError(f"logging in needs an https address, not {session.url}")
            form = {"username": credentials.user, "password": credentials.password}
            address = f"{session.url.rpartition('/')[0]}/login"
            answer = to_answer(session.post(address, data=form))
            refused = f"{session.host} did not let '{credentials.user}' log in"
            if answer.status != 200:
                said = f"{refused}: HTTP {answer.status} {read_reason(answer)}"
                raise RefusedError(said.strip())
            if not session.cookies:
                raise RefusedError(f"{refused}: it gave no session (down for maintenance?)")
