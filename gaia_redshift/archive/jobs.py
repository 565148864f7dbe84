"""Queries (ADQL) to a TAP service, by pyvo on our session: with deadlines, and taken up again.

`run_query` makes an asynchronous job, whose address is noted, so that a later call with the same
query takes it up instead of queueing again. `ask_now` is for small questions: it needs no queue.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gaia_redshift._files import one_line
from gaia_redshift._quiet import ignore_warnings, preserve_settings
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import (
    Answer,
    Patience,
    RefusedError,
    StoppedError,
    TransientError,
    parse_result,
    read_reason,
    to_votable,
)
from gaia_redshift.archive.settings import ArchiveSettings, Login, find_cache_root
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import ArchiveError, GaiaRedshiftWarning, InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["ask_now", "run_query", "submit_now"]

logger = logging.getLogger(__name__)

JOB_AGE = 3 * 86_400.0
"""Seconds for which a job is taken up again: servers keep them for some days."""
_RUNNING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")
_FIRST_NOTICE = 20.0

Notice = Callable[[str], None]


@preserve_settings()
def run_query(
    adql: str,
    *,
    upload: Mapping[str, Table] | None = None,
    settings: ArchiveSettings | None = None,
    login: Login = None,
    maxrec: int | None = None,
    deadline: float | None = None,
    connections: Connections | None = None,
    stop: threading.Event | None = None,
    notice: Notice | None = None,
) -> Table:
    """Run a query as an asynchronous job and return its whole result.

    Parameters
    ----------
    adql : str
        The query. There is no hidden limit of rows but the server's own.
    upload : mapping of str to Table, optional
        Tables that the query names as ``TAP_UPLOAD.name``.
    settings : ArchiveSettings, optional
    login : see `gaia_redshift.archive.settings.find_credentials`
    maxrec : int, optional
        Most rows wanted.
    deadline : float, s, optional
        Instead of the settings' ``query_deadline``.
    connections : Connections, optional
        Open ones to use, instead of new ones by ``settings`` and ``login``.
    stop : threading.Event, optional
        Gives up when set.
    notice : callable, optional
        Told in words how long the query has been waiting, now and then; else the log is.

    Returns
    -------
    Table
        ``source_id`` columns are int64, exact.

    Raises
    ------
    ArchiveError
        In one line: the query is refused (with the server's words), the login fails, no answer
        comes within the deadline, or a page for people comes instead of data.
    InputError
        If the query is empty or an upload's name is no name.

    Warns
    -----
    GaiaRedshiftWarning
        If the server cut the result at its limit of rows.

    Notes
    -----
    A query that is interrupted or not finished at the deadline goes on in the archive: within three
    days the same call takes it up again, where the cache can be written.
    """
    if not isinstance(adql, str) or not adql.strip():
        raise InputError("the query is empty")
    for name in upload or {}:
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise InputError(f"'{name}' cannot be the name of an uploaded table")
    importlib.import_module("pyvo.dal.tap")  # now: its time shall not count against the deadline
    if connections is None:
        connections = Connections(settings or ArchiveSettings(), login, notes=find_cache_root())
    settings = connections.settings
    seconds = settings.query_deadline if deadline is None else deadline
    files = {name: to_votable(table) for name, table in (upload or {}).items()}
    patience = Patience(settings, seconds, stop)
    job = AdqlJob(connections, adql, files, maxrec=maxrec, patience=patience, notice=notice)
    table, overflow = job.run()
    if overflow and (maxrec is None or len(table) < maxrec):
        warnings.warn(
            f"the archive cut the result of the query at its limit of {len(table):,} rows: narrow"
            " the query, or log in for a higher limit",
            GaiaRedshiftWarning,
            stacklevel=4,
        )
    return table


def ask_now(
    session: TimedSession,
    adql: str,
    patience: Patience,
    *,
    maxrec: int,
    columns: tuple[str, ...] = (),
) -> Table:
    """Ask a small question, whose answer comes at once and must be whole.

    It must have fewer rows than ``maxrec``, and ``columns``; names are given in lower case.
    """

    def ask() -> Table:
        with session.asking("the query", patience.ends):
            answer = submit_now(session, adql, maxrec=maxrec)
        table, overflow = parse_result(answer, session.settings.largest_answer)
        if overflow or len(table) > maxrec:
            raise RefusedError(f"{session.host} cut the answer to a query at {len(table):,} rows")
        for name in table.colnames:
            if name.lower() not in table.colnames:
                table.rename_column(name, name.lower())
        if not set(columns) <= set(table.colnames):
            raise RefusedError(
                f"{session.host} answered a question for {', '.join(columns)} with columns"
                f" {', '.join(table.colnames)}"
            )
        return table

    return patience.run(ask)


def submit_now(
    session: TimedSession, adql: str, files: Mapping[str, bytes] | None = None, *, maxrec: int
) -> Answer:
    """Send a query that is answered at once; services may answer with where the result is."""
    response = _submit(session, adql, files, mode="sync", maxrec=maxrec)
    if response.status_code == 303:
        response = session.get(session.rebase(response.headers["location"]))
    return to_answer(response)


def _submit(
    session: TimedSession, adql: str, files: Mapping[str, bytes] | None = None, **options: Any
) -> Any:
    """Send a query, as a job or not; the answer to it, which may lead elsewhere."""
    from pyvo.dal.tap import TAPQuery

    uploads = {name: io.BytesIO(content) for name, content in (files or {}).items()}
    query = TAPQuery(
        session.url, adql, uploads=uploads, session=session, format="votable", **options
    )
    return query.submit()


class AdqlJob:
    """A query as an asynchronous job: found again or made, waited for, read, not left behind."""

    def __init__(
        self,
        connections: Connections,
        adql: str,
        files: Mapping[str, bytes],
        *,
        maxrec: int | None,
        patience: Patience,
        notice: Notice | None,
    ) -> None:
        self.connections, self.session = connections, connections.tap
        self.adql, self.files, self.maxrec = adql, files, maxrec
        self.patience, self.notice = patience, notice
        user = connections.credentials.user if connections.credentials else ""
        content = repr((adql, sorted(files.items()), maxrec, user)).encode()
        self.key = f"job {hashlib.sha256(content).hexdigest()[:24]}"
        self.job: Any = None

    def run(self) -> tuple[Table, bool]:
        """Take the job up or make it, wait for it, and read its result; and whether it was cut."""
        if not self._take_up():
            self._start()
        try:
            self._wait()
            self.patience = self.patience.renew()
            result = self.patience.run(self._read_result)
        except RefusedError:
            self._discard(abort=True)
            raise
        except (ArchiveError, KeyboardInterrupt):
            if self.connections.tap_notes.path is None:  # nobody could take it up again
                self._discard(abort=True)
            raise
        self._discard()
        return result

    def _asking(self, what: str) -> Any:
        return self.session.asking(what, self.patience.ends)

    def _take_up(self) -> bool:
        """Find the job that an earlier call has left, if it still runs or has ended well."""
        noted = self.connections.tap_notes.get(self.key, JOB_AGE)
        if not isinstance(noted, str) or not re.fullmatch(r"[\w.-]+", noted):
            return False
        self.address = f"{self.session.url}/async/{noted}"
        with suppress(RefusedError):  # it is not known any more
            phase = self.patience.run(self._look)
            if phase == "COMPLETED" or phase in _RUNNING:
                logger.info("%s: job %s is taken up again", self.session.host, noted)
                return True
        self.connections.tap_notes.put(self.key, None)
        self.job = None
        return False

    def _start(self) -> None:
        """Create the job; its address is on the server that made it."""

        def post() -> Answer:
            with self._asking("the query"):
                response = _submit(
                    self.session,
                    self.adql,
                    self.files,
                    mode="async",
                    maxrec=self.maxrec,
                    phase="RUN",
                )
            return to_answer(response)

        answer = self.patience.run(post)
        name = answer.headers.get("location", "").rstrip("/").rpartition("/")[2]
        if not name:
            raise RefusedError(f"{answer.host} answered the query without making a job of it")
        self.address = f"{self.session.url}/async/{name}"
        self.connections.tap_notes.put(self.key, name)
        logger.debug("job %s", self.address)

    def _look(self) -> str:
        from pyvo.dal.tap import AsyncTAPJob

        try:
            with self._asking("the question after the query"), ignore_warnings():
                if self.job is None:
                    self.job = AsyncTAPJob(self.address, session=self.session, delete=False)
                phase = str(self.job.phase).strip().upper()
        except ArchiveError:
            raise
        except Exception as error:  # pyvo's parser of XML raises anything
            raise TransientError(f"{self.session.host} did not say how the query stands") from error
        if not re.fullmatch(r"[A-Z]+", phase):
            raise TransientError(f"{self.session.host} did not say how the query stands")
        return phase

    def _wait(self) -> None:
        """Look at the job, less and less often, until it has ended."""
        self.patience = self.patience.renew()
        pause = self.patience.settings.first_poll
        began = time.monotonic()
        next_notice = _FIRST_NOTICE
        phase = "QUEUED"
        while True:
            try:
                phase = self.patience.run(self._look)
            except TransientError:
                if self.patience.left > 0:
                    raise
                pause = float("inf")  # the time was up in the middle of a look
            if phase == "COMPLETED":
                return
            if phase == "PENDING":  # some servers do not start it by itself
                with self._asking("the start of the query"):
                    self.patience.run(self.job.run)
            elif phase not in _RUNNING:
                raise RefusedError(
                    f"{self.session.host} could not run the query"
                    f" ({phase.lower()}): {self._read_error() or 'no reason given'}"
                )
            if pause >= self.patience.left:
                raise ArchiveError(
                    f"{self.session.host} did not finish the query within"
                    f" {self.patience.seconds:g} s (the job is {phase.lower()}){self._explain()}"
                )
            waited = time.monotonic() - began
            if waited >= next_notice:
                self._tell(phase, waited)
                next_notice = waited + max(_FIRST_NOTICE, 0.25 * waited)
            self.patience.sleep(pause)
            pause = min(1.5 * pause, self.patience.settings.longest_poll)

    def _explain(self) -> str:
        return (
            "; the same call takes it up again"
            if self.connections.tap_notes.path is not None
            else ""
        )

    def _tell(self, phase: str, waited: float) -> None:
        how_long = f"{waited:.0f} s" if waited < 90 else f"{waited / 60:.0f} min"
        text = f"{self.session.host}: the query has been {phase.lower()} for {how_long}"
        if phase == "QUEUED" and not self.connections.logged_in:
            text += " (users who log in wait less: --login USER)"
        text += self._explain()
        if self.notice is not None:
            self.notice(text)
        else:
            logger.warning("%s", text)

    def _read_error(self) -> str:
        from pyvo.dal.exceptions import DALQueryError

        try:
            self.job.raise_if_error()
        except DALQueryError as error:
            words = one_line(error, 300).removeprefix("Query Error: ")
            if "No useful error" not in words:
                return read_reason(Answer(400, {}, words.encode()))
        with suppress(ArchiveError), self.session.asking("", self.patience.ends):
            answer = to_answer(self.session.get(f"{self.address}/error"))
            return read_reason(answer) if answer.status == 200 else ""
        return ""

    def _read_result(self) -> tuple[Table, bool]:
        with self._asking("the result of the query"):
            answer = to_answer(self.session.get(f"{self.address}/results/result"))
        return parse_result(answer, self.session.settings.largest_answer)

    def _discard(self, *, abort: bool = False) -> None:
        """Do not leave the job behind on the server: at best, whatever it says."""
        self.connections.tap_notes.put(self.key, None)
        if self.job is None or not (abort or self.connections.logged_in):
            return  # anonymous jobs go by themselves
        with suppress(ArchiveError, StoppedError), self.session.asking("", time.monotonic() + 10):
            if abort:
                self.job.abort()
            if self.connections.logged_in:
                self.job.delete()
