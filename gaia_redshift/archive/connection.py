"""The services of the Gaia archive: logged in if wanted, with what was learnt of them before.

DataLink's word for "one file, one row a source" has changed and may change again. A refusal of a
word lists those that it takes ("Invalid Data Structure parameter: 'RAW', valid ones are:
DATAMODEL_STANDARD, DATAMODEL_GAIA"): these are read, not guessed, and the word that works is
remembered for the server and the release.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gaia_redshift._files import write_text
from gaia_redshift.archive.failures import Answer, RefusedError, TransientError, read_reason
from gaia_redshift.archive.settings import ArchiveSettings, Credentials, Login, find_credentials
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.archive.releases import Release

__all__ = ["Connections", "Notes", "StructureWord", "read_refusal"]

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


_REFUSAL = re.compile(r"data[\s_]*structure", re.IGNORECASE)
_LIST = re.compile(
    r"\bvalid\b(?:\s+(?:ones|values|structures|options))?(?:\s+(?:are|is))?\s*:?", re.I
)
_WORD = re.compile(r"[\s'\"\[(]*([A-Z][A-Z0-9_]*(?: [A-Z][A-Z0-9_]*)*)\b['\"]?\s*(,?)")
_FILE_A_SOURCE = ("DATAMODELSTANDARD", "INDIVIDUAL")
"""Structures of a file for each source: read as well, but slowly; the last resort."""


def read_refusal(answer: Answer) -> list[str] | None:
    """Return the words that a server takes instead of the one it refused.

    None are named in some refusals; None tells that the answer is no refusal of the word.
    """
    if answer.status < 400:
        return None
    reason = read_reason(answer)
    refused = _REFUSAL.search(reason)
    if refused is None:
        return None
    listed = _LIST.search(reason, refused.end())
    if listed is None:
        return []
    words: list[str] = []
    at = listed.end()
    while (match := _WORD.match(reason, at)) is not None:
        words.append(match[1].replace(" ", "_"))
        at = match.end()
        if not match[2]:
            break
    return words


def _squeeze(word: str) -> str:
    return re.sub(r"[\W_]+", "", word).upper()


class StructureWord:
    """The word for one server and release; while it is not known, one request at a time is made."""

    def __init__(self, release: Release, notes: Notes) -> None:
        self.release = release
        self.notes = notes
        self.key = f"structure {release.name}"
        noted = notes.get(self.key)
        self.word = noted if isinstance(noted, str) and noted else ""
        self._lock = threading.Lock()
        self._settled = bool(self.word)

    def forget(self) -> None:
        """Find the word anew at the next request."""
        self.word, self._settled = "", False

    def ask(self, post: Callable[[str], Answer], until: float | None = None) -> Answer:
        """Make a request with the word, or with those that the server names if it is refused.

        ``post`` makes the request with a word; ``until`` a ``time.monotonic()`` a thread waits for
        another one that is finding the word.
        """
        waiting = list(self.release.data_structures)
        tried: list[str] = []
        if (word := self.word) and self._settled:
            answer = post(word)
            taken = read_refusal(answer)
            if taken is None:
                return answer
            tried.append(word)  # it has changed its mind
            waiting = self._rank(taken or waiting, tried)
        wait = -1.0 if until is None else max(0.0, until - time.monotonic())
        if not self._lock.acquire(timeout=wait):
            raise TransientError(f"no answer yet to the first request for {self.release.label}")
        try:
            if self._settled and self.word not in tried:
                waiting.insert(0, self.word)  # another thread has found it meanwhile
            return self._find(post, waiting, tried)
        finally:
            self._lock.release()

    def _find(self, post: Callable[[str], Answer], waiting: list[str], tried: list[str]) -> Answer:
        while waiting:
            word = waiting.pop(0)
            answer = post(word)
            taken = read_refusal(answer)
            if taken is None:
                if answer.status < 300 and word != self.word:
                    self.word = word
                    self.notes.put(self.key, word)
                self._settled = self._settled or answer.status < 300
                return answer
            tried.append(word)
            logger.info("%s does not take the structure %s, but %s", answer.host, word, taken)
            waiting = self._rank(taken or waiting, tried)
        said = read_reason(answer)
        raise RefusedError(
            f"{answer.host} takes none of the data structures that this version knows"
            f" ({', '.join(tried)}): {said}; update the package"
        )

    def _rank(self, taken: list[str], tried: list[str]) -> list[str]:
        """Put what a server takes in order: our words, unknown ones, those of many files."""
        ours = {_squeeze(word): word for word in self.release.data_structures}
        words = [ours.get(_squeeze(word), word) for word in taken]
        rank = {word: i for i, word in enumerate(self.release.data_structures)}
        order = sorted(
            dict.fromkeys(words),
            key=lambda word: (_squeeze(word) in _FILE_A_SOURCE, rank.get(word, len(rank))),
        )
        return [word for word in order if word not in tried]


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
