"""The services of the Gaia archive: logged in if wanted, with what was learnt of them before.

Credentials come from the places where astroquery looks for them, and are never logged.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift._files import write_text
from gaia_redshift.archive.failures import Answer, RefusedError, read_reason
from gaia_redshift.archive.releases import Release, StructureWord
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import InputError

__all__ = ["Connections", "Credentials", "Login", "Notes", "find_credentials"]

logger = logging.getLogger(__name__)


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


Login = Any
"""None, a user name, a path of a file of credentials, (user, password), or `Credentials`."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password that no message shows."""

    user: str
    password: str = field(repr=False)


def find_credentials(login: Login, host: str) -> Credentials | None:
    """Find user name and password.

    Parameters
    ----------
    login : None, str, path, (str, str), or Credentials
        None: nobody logs in. A path: a file of two lines, user name and password, as astroquery's
        ``credentials_file``. A user name: the password comes from the keyring, under the name
        ``astroquery:HOST`` that astroquery uses, or is asked for on the terminal.
    host : str
        The archive's host.

    Returns
    -------
    Credentials or None

    Raises
    ------
    InputError
        If they cannot be found. No message shows a password.
    """
    if login is None or isinstance(login, Credentials):
        return login
    if isinstance(login, tuple | list):
        if len(login) == 2 and all(isinstance(part, str) and part for part in login):
            return Credentials(*login)
        raise InputError("login takes (user, password), a user name, or a file of credentials")
    if not isinstance(login, str | os.PathLike) or not os.fspath(login):
        raise InputError(
            f"login takes (user, password), a user name, or a file of credentials, not"
            f" {type(login).__name__}"
        )
    path = Path(os.fspath(login)).expanduser()
    if path.is_file():
        return _read_file(path)
    if isinstance(login, os.PathLike) or os.sep in login:
        raise InputError(f"no such file of credentials: '{path}'")
    password = _look_in_keyring(host, login) or _ask(host, login)
    if password is None:
        raise InputError(
            f"no password for '{login}': store it with `keyring set astroquery:{host} {login}`, or"
            " give a file with user name and password in two lines"
        )
    return Credentials(login, password)


def _read_file(path: Path) -> Credentials:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a file of credentials") from error
    if len(lines) < 2 or not lines[0].strip() or not lines[1].strip():
        raise InputError(f"{path}: must hold two lines, the user name and the password")
    return Credentials(lines[0].strip(), lines[1].strip())


def _look_in_keyring(host: str, user: str) -> str | None:
    try:
        import keyring

        return keyring.get_password(f"astroquery:{host}", user)
    except Exception:  # no keyring, or none that works here: its back ends raise anything
        return None


def _ask(host: str, user: str) -> str | None:
    if not sys.stdin.isatty():
        return None
    from getpass import getpass

    return getpass(f"Password of {user} at {host}: ") or None


class Notes:
    """Values by key, each with the time when it was learnt.

    ``folder`` is the root of the cache; None keeps them in memory alone.
    """

    def __init__(self, folder: Path | None, url: str) -> None:
        name = re.sub(r"[^\w.-]", "_", urlsplit(url).netloc)
        self.path = None if folder is None else folder / "servers" / f"{name}.json"
        self._lock = threading.Lock()
        self._values: dict[str, Any] = self._read()

    def _read(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            values = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):  # not there yet, or damaged: learnt again
            return {}
        return values if isinstance(values, dict) else {}

    def get(self, key: str, longest: float = 30 * 86_400.0) -> Any:
        """Return a value that was learnt within the last ``longest`` seconds, else None."""
        entry = self._values.get(key)
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], int | float):
            return None
        return entry[1] if 0 <= time.time() - entry[0] <= longest else None

    def put(self, key: str, value: Any) -> None:
        """Keep a value; None forgets it. That it cannot be written is no reason to stop."""
        with self._lock:
            kept = self._read()  # others may have learnt more, or forgotten something
            for values in (self._values, kept):
                values[key] = [time.time(), value]
                if value is None:
                    del values[key]
            if self.path is None:
                return
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(kept, indent=1))
            except OSError as error:
                logger.info("%s: cannot be written: %s", self.path, error)
