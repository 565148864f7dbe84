"""The archive's word for "one file, one row a source", which it has changed and may change again.

Its refusal of a word lists those that it takes ("Invalid Data Structure parameter: 'RAW', valid
ones are: DATAMODEL_STANDARD, DATAMODEL_GAIA"): these are read, not guessed, and the word that works
is remembered for the server and the release.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from gaia_redshift.archive.failures import Answer, RefusedError, TransientError, read_reason
from gaia_redshift.archive.notes import Notes
from gaia_redshift.archive.releases import Release

__all__ = ["StructureWord", "read_refusal"]

logger = logging.getLogger(__name__)

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
