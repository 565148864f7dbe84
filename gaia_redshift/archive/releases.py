"""What the archive calls things in each data release: the one place for such names.

DataLink's word for "one file, one row a source" has changed and may change again. A refusal of a
word lists those that it takes ("Invalid Data Structure parameter: 'RAW', valid ones are:
DATAMODEL_STANDARD, DATAMODEL_GAIA"): these are read, not guessed, and the word that works is
remembered for the server and the release.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaia_redshift.archive.failures import Answer, RefusedError, TransientError, read_reason
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.archive.connection import Notes

__all__ = [
    "DEFAULT_RELEASE",
    "GALAXIES",
    "NEIGHBOURS",
    "QUASARS",
    "RELEASES",
    "Release",
    "StructureWord",
    "find_release",
    "read_refusal",
]

logger = logging.getLogger(__name__)

DEFAULT_RELEASE = "DR3"


@dataclass(frozen=True)
class Release:
    """Names of one data release, and candidates for those that the archive is asked about.

    Parameters
    ----------
    label, retrieval_type : str
        DataLink's names for the release and for mean BP/RP spectra as coefficients.
    data_structures : tuple of str
        DataLink's names for "one file, one row a source", the newest first.
    schema : str
        Prefix of its tables.
    flags : tuple of str
        Where it may stand that a source has a mean spectrum: ``table.column``, or ``table`` where a
        row is enough. Tables of all sources come first, as in ``positions`` and ``magnitudes``.
    columns : mapping of str to str
        Tables whose columns are published, with those that are used; ``name:boolean`` for truth.
    bases : str
        The sets of basis functions, in words.
    confirmed : bool
        Whether these names are published; else the archive's ``TAP_SCHEMA`` is asked which of the
        candidates there are (`gaia_redshift.archive.tables.find_tables`).
    """

    name: str
    label: str
    retrieval_type: str
    data_structures: tuple[str, ...]
    schema: str
    flags: tuple[str, ...]
    positions: tuple[str, ...]
    magnitudes: tuple[str, ...]
    columns: Mapping[str, str]
    bases: str
    confirmed: bool

    @property
    def source_table(self) -> str:
        """The main table."""
        return f"{self.schema}.gaia_source"


GALAXIES, QUASARS, NEIGHBOURS = "galaxy_candidates", "qso_candidates", "dr3_neighbourhood"
"""Tables that have the same name in each release that has them."""

RELEASES = {
    "DR3": Release(
        name="DR3",
        label="Gaia DR3",
        retrieval_type="XP_CONTINUOUS",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr3",
        flags=("gaia_source.has_xp_continuous", "xp_summary"),
        positions=("gaia_source",),
        magnitudes=("gaia_source",),
        columns={
            "gaia_source": "source_id ra dec phot_g_mean_mag phot_bp_mean_mag phot_rp_mean_mag"
            " has_xp_continuous:boolean"
        },
        bases="Hermite functions, 55 BP + 55 RP coefficients",
        confirmed=True,
    ),
    # Not confirmed: DR4 opens on 2 December 2026. The retrieval type is the one that astroquery
    # lists; tables and columns are those of ESA's draft of its data model (June 2026), where
    # gaia_source has no flag for XP spectra and lacks sources without good astrometry, as many
    # galaxies are; those after them follow DR3.
    "DR4": Release(
        name="DR4",
        label="Gaia DR4",
        retrieval_type="MEAN_SPECTRUM_XP",
        data_structures=("DATAMODEL_GAIA", "RAW"),
        schema="gaiadr4",
        flags=(
            "all_source_flags.has_xp",
            "all_source_flags.has_xp_continuous",
            "gaia_source.has_xp_continuous",
            "gaia_source.has_xp",
            "xp_summary",
            "xp_continuous_mean_spectrum",
        ),
        positions=("all_source_astrometry", "gaia_source"),
        magnitudes=("all_source_photometry", "gaia_source"),
        columns={},
        bases="told by each spectrum's number of coefficients (51 + 55 expected)",
        confirmed=False,
    ),
}
"""The releases known, by name."""


def find_release(name: str | Release) -> Release:
    """Return the release of this name ("DR3", "dr3", "Gaia DR3")."""
    if isinstance(name, Release):
        return name
    short = str(name).upper().replace("GAIA", "").replace(" ", "").replace("_", "")
    if short not in RELEASES:
        raise InputError(f"no data release '{name}'; known are {', '.join(RELEASES)}")
    return RELEASES[short]


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
