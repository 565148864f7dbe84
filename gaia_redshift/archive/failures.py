"""What servers answer, and what can go wrong, as exceptions: what may pass, and what will not."""

from __future__ import annotations

import gzip
import html
import io
import logging
import random
import re
import threading
import time
import zlib
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from gaia_redshift._files import GZIP, one_line
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import ArchiveError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "Answer",
    "Patience",
    "RefusedError",
    "StoppedError",
    "TransientError",
    "UnknownHostError",
    "check_answer",
    "parse_result",
    "to_votable",
    "unpack",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_UP = 10.0
"""Seconds after which a name that is not found is given up."""
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_FROM_ARCHIVE = {400, 500}
"""Status of the archive's own words; the others come from what stands before it."""
_FINAL = (
    (r"cannot parse|unknown (table|column)|unresolved identifier|exceeds the max", ""),
    (
        r"quota",
        "ask for less at a time, or log in (--login USER, login=...): users who have registered"
        " have a larger quota",
    ),
    (
        r"\b(release|dr\s?\d)\b.{0,60}\b(not|unknown|invalid|unsupported|forbidden)\b"
        r"|\b(unknown|invalid|unsupported|no such)\b.{0,40}\brelease\b",
        "this server does not serve that data release (DR4 opens on 2 December 2026)",
    ),
    (r"invalid\b.{0,60}\b(parameter|value)|invalid mandatory argument", ""),
)
"""Words that stay true when it is asked again; and what helps."""


class TransientError(ArchiveError):
    """It may go better another time, after ``wait`` seconds if the server asked for these.

    ``answered``: the server dealt with the request, so that a smaller one may do better.
    """

    def __init__(self, message: str, wait: float | None = None, *, answered: bool = True) -> None:
        super().__init__(message)
        self.wait = wait
        self.answered = answered


class UnknownHostError(TransientError):
    """The server's name is not found: mostly there is no network."""


class RefusedError(ArchiveError):
    """Asking again would not help."""


class StoppedError(ArchiveError):
    """The call was given up, by the user or because the archive does not answer."""


@dataclass
class Answer:
    """A server's whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    host: str = "the server"

    @property
    def is_web_page(self) -> bool:
        """Whether a page for people came instead of data."""
        head = self.body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        return head.startswith((b"<!doctype html", b"<html"))


def check_answer(answer: Answer, *, what: str, expected: tuple[int, ...] = (200,)) -> Answer:
    """Return the answer if it is what was asked for; else raise one line: who, what, why."""
    status, host = answer.status, answer.host
    reason = read_reason(answer)
    if status in expected:
        if status < 300 and answer.is_web_page:
            raise RefusedError(
                f"{host} answered {what} with a web page instead of data ('{reason}'): it may be"
                " down for maintenance, or the address is wrong; try again later"
            )
        return answer
    said = f": {reason}" if reason else ""
    if status in (401, 403):
        raise RefusedError(
            f"{host} refused {what} (HTTP {status}{said}): check user name and password"
        )
    if status == 404:
        raise RefusedError(f"{host} does not know {what} (HTTP 404): is the address right?")
    advice = find_refusal(reason) if status in _FROM_ARCHIVE else None
    if status in TRANSIENT and advice is None:
        wait = parse_retry_after(answer.headers.get("retry-after"))
        text = f"{host} failed on {what} (HTTP {status}{said})"
        raise TransientError(text, wait, answered=status == 500)
    more = f"; {advice}" if advice else ""
    raise RefusedError(f"{host} refused {what} (HTTP {status}{said}){more}")


def find_refusal(reason: str) -> str | None:
    """Return what helps where a server's words say that it will not; None if it may pass."""
    for pattern, advice in _FINAL:
        if re.search(pattern, reason, re.IGNORECASE):
            return advice
    return None


def read_reason(answer: Answer) -> str:
    """Find the words for people in an error: VOTable, the archive's HTML, or plain text."""
    text = answer.body[:20_000].decode("utf-8", errors="replace")
    for pattern in (
        r"<(?:\w+:)?INFO[^>]*name=\"QUERY_STATUS\"[^>]*value=\"ERROR\"[^>]*>(.*?)</(?:\w+:)?INFO>",
        r"<li><b>Message: </b>(.*?)</li>",
        r"<(?:\w+:)?message[^>]*>(.*?)</(?:\w+:)?message>",
        r"<title>(.*?)</title>",
        r"<h1>(.*?)</h1>",
    ):
        match = re.search(pattern, text, re.DOTALL | re.IGNORECASE)
        if match and match[1].strip():
            return _tidy(match[1])
    if b"\x00" in answer.body[:200] or answer.body[:2] in (GZIP, b"PK"):
        return ""
    return _tidy(text)


def _tidy(text: str) -> str:
    text = re.sub(r"<!\[CDATA\[(.*?)\]\]>", r"\1", text, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "..."


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number or a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _log_failure(failure: TransientError) -> None:
    logger.warning("%s; trying again", failure)


class Patience:
    """Tries, growing waits and the deadline, in seconds from now, of one task.

    ``stop`` ends every wait at once when set; ``on_failure`` is told of what is tried again, by
    default in the log. A name that is not found is tried for `LOOK_UP` seconds only.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        seconds: float,
        stop: threading.Event | None = None,
        on_failure: Callable[[TransientError], None] | None = None,
    ) -> None:
        self.settings = settings
        self.seconds = seconds
        self.ends = time.monotonic() + seconds
        self.stop = stop or threading.Event()
        self.on_failure = on_failure or _log_failure
        self.failures = 0

    def renew(self) -> Patience:
        """Return new tries within the same deadline, for another step of the task."""
        again = copy(self)
        again.failures = 0
        return again

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.ends - time.monotonic()

    @property
    def is_last(self) -> bool:
        """Whether one more failure is the last."""
        return self.failures + 1 >= self.settings.tries

    def sleep(self, seconds: float) -> None:
        """Wait; StoppedError tells that the whole call is being given up."""
        if self.stop.wait(max(0.0, min(seconds, self.left))):
            raise StoppedError("given up")

    def fail(self, failure: TransientError) -> None:
        """Count a failure and wait before the next try; raise it if there is to be none."""
        self.failures += 1
        if self.failures >= self.settings.tries:
            times = "once" if self.failures == 1 else f"{self.failures} times"
            raise self._give_up(failure, f"tried {times}")
        wait = min(
            self.settings.first_wait * 2.0 ** (self.failures - 1), self.settings.longest_wait
        )
        wait *= random.uniform(0.8, 1.2)  # so that many clients do not come back together
        wait = max(wait, failure.wait or 0.0)
        if isinstance(failure, UnknownHostError):
            self.seconds = min(self.seconds, LOOK_UP)
            self.ends = min(self.ends, time.monotonic() + LOOK_UP)
        if wait >= self.left:
            asked = f", which asks to wait {failure.wait:.0f} s" if failure.wait else ""
            raise self._give_up(failure, f"no more tries within {self.seconds:g} s{asked}")
        self.on_failure(failure)
        self.sleep(wait)

    def _give_up(self, failure: TransientError, why: str) -> TransientError:
        return TransientError(f"{failure}; {why}", failure.wait, answered=failure.answered)

    def run(self, task: Callable[[], T]) -> T:
        """Do something until it works; raise the last failure if it does not, a refusal at once."""
        while True:
            if self.stop.is_set():
                raise StoppedError("given up")
            try:
                return task()
            except TransientError as failure:
                self.fail(failure)


def unpack(body: bytes, most: int, host: str) -> bytes:
    """Unpack gzip; a bomb is refused."""
    if body[:2] != GZIP:
        return body
    unpacker = zlib.decompressobj(31)
    unpacked = unpacker.decompress(body, most)
    if unpacker.unconsumed_tail:
        raise RefusedError(f"{host} sent a result that unpacks to more than {most / 1e9:.3g} GB")
    return unpacked if unpacker.eof and not unpacker.unused_data else gzip.decompress(body)


def parse_result(answer: Answer, most: int) -> tuple[Table, bool]:
    """Turn a VOTable, perhaps packed with gzip, into a table; and tell whether there was more.

    ``most`` is what it may unpack to, in bytes. A damaged one is a TransientError, the server's
    error message a RefusedError.
    """
    from gaia_redshift.readers.votable import parse_votable

    try:
        body = unpack(answer.body, most, answer.host)
        plain = Answer(answer.status, answer.headers, body, answer.host)
        check_answer(plain, what="the result of the query")
        with ignore_warnings():  # oddities that do not stop astropy
            votable = parse_votable(body, f"the answer of {answer.host}")
            words = [
                (str(info.value).upper(), str(info.content or ""))
                for resource in votable.resources
                for info in resource.infos
                if info.name == "QUERY_STATUS"
            ]
            for value, content in words:
                if value == "ERROR":
                    reason = " ".join(content.split())[:300] or "no reason given"
                    raise RefusedError(f"{answer.host} could not run the query: {reason}")
            table = votable.get_first_table().to_table(use_names_over_ids=True)
    except (ArchiveError, MemoryError):
        raise
    except Exception as error:  # gzip and the parsers of XML and VOTable raise anything
        reason = one_line(error, 120)
        raise TransientError(
            f"{answer.host} sent a damaged result of the query ({reason})"
        ) from error
    table.meta.clear()
    return table, any(value == "OVERFLOW" for value, _ in words)


def to_votable(table: Table) -> bytes:
    """Write a table for an upload."""
    from astropy.io.votable import from_table, writeto

    stream = io.BytesIO()
    with ignore_warnings():
        writeto(from_table(table), stream, tabledata_format="tabledata")
    return stream.getvalue()
