"""Queries (ADQL) to the archive's TAP service: asynchronous jobs with a deadline."""

from __future__ import annotations

import gzip
import io
import logging
import re
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gaia_redshift._quiet import ignore_warnings, preserve_settings
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import (
    Answer,
    Patience,
    RefusedError,
    StoppedError,
    TransientError,
    check_answer,
    read_reason,
)
from gaia_redshift.archive.login import Login
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import ArchiveError, GaiaRedshiftWarning, InputError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["run_query"]

logger = logging.getLogger(__name__)

_RUNNING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")


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
) -> Table:
    """Run a query as an asynchronous job and return its whole result.

    Parameters
    ----------
    adql : str
        The query. There is no hidden limit of rows but the server's own.
    upload : mapping of str to Table, optional
        Tables that the query names as ``TAP_UPLOAD.name``.
    settings : ArchiveSettings, optional
    login : see `gaia_redshift.archive.login.find_credentials`
    maxrec : int, optional
        Most rows wanted.
    deadline : float, s, optional
        Instead of the settings' ``query_deadline``.
    connections : Connections, optional
        Open ones to use, instead of new ones by ``settings`` and ``login``.
    stop : threading.Event, optional
        Gives up when set.

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
    """
    if not isinstance(adql, str) or not adql.strip():
        raise InputError("the query is empty")
    for name in upload or {}:
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise InputError(f"'{name}' cannot be the name of an uploaded table")
    if connections is None:
        connections = Connections(settings or ArchiveSettings(), login)
    settings = connections.settings
    seconds = settings.query_deadline if deadline is None else deadline
    job = _Job(connections, Patience(settings, seconds, stop))
    job.start(adql, upload or {}, maxrec)
    try:
        job.wait()
        table = job.patience.run(job.read_result)
    except TransientError:  # it does not answer: there is no point in asking it to stop
        raise
    except BaseException:
        job.discard(abort=True)
        raise
    job.discard()
    if job.overflow and (maxrec is None or len(table) < maxrec):
        warnings.warn(
            f"the archive cut the result of the query at its limit of {len(table):,} rows: narrow"
            " the query, or log in for a higher limit",
            GaiaRedshiftWarning,
            stacklevel=4,
        )
    return table


class _Job:
    def __init__(self, connections: Connections, patience: Patience) -> None:
        self.connections = connections
        self.patience = patience
        self.address = ""
        self.overflow = False
        self._renew()

    def _renew(self) -> None:
        """Give each step its own tries: all of them share the deadline."""
        old = self.patience
        self.patience = Patience(old.settings, old.seconds, old.stop, old.on_failure)
        self.patience.ends = old.ends

    def start(self, adql: str, upload: Mapping[str, Table], maxrec: int | None) -> None:
        """Create the job; its address is on the server that made it."""
        fields: dict[str, Any] = {
            "REQUEST": "doQuery",
            "LANG": "ADQL",
            "FORMAT": "votable",
            "PHASE": "RUN",
            "QUERY": adql,
        }
        if maxrec is not None:
            fields["MAXREC"] = str(maxrec)
        files = []
        if upload:
            fields["UPLOAD"] = ";".join(f"{name},param:{name}" for name in upload)
            files = [(name, f"{name}.vot", _to_votable(table)) for name, table in upload.items()]

        def post() -> Answer:
            answer = self.connections.post_tap("async", fields, files)
            return check_answer(answer, what="the query", expected=(200, 201, 303))

        answer = self.patience.run(post)
        location = answer.headers.get("location", "")
        if not location:
            raise RefusedError(f"{answer.host} answered the query without making a job of it")
        self.address = f"async/{location.rstrip('/').rpartition('/')[2]}"
        logger.debug("job %s", self.address)

    def wait(self) -> None:
        """Look at the job, less and less often, until it has ended."""
        self._renew()
        pause = self.patience.settings.first_poll
        while True:
            phase = self.patience.run(self._look)
            if phase == "COMPLETED":
                return
            if phase == "PENDING":  # some servers do not start it by itself
                self.patience.run(self._run)
            elif phase not in _RUNNING:
                reason = self._read_error()
                raise RefusedError(
                    f"{self.connections.tap_host} could not run the query"
                    f" ({phase.lower()}): {reason or 'no reason given'}"
                )
            if pause >= self.patience.left:
                raise ArchiveError(
                    f"{self.connections.tap_host} did not finish the query within"
                    f" {self.patience.seconds:g} s (the job is {phase.lower()})"
                )
            self.patience.sleep(pause)
            pause = min(1.5 * pause, self.patience.settings.longest_poll)

    def _look(self) -> str:
        answer = self.connections.get_tap(f"{self.address}/phase")
        check_answer(answer, what="the question after the query")
        phase = answer.body.decode("ascii", errors="replace").strip().upper()
        if not re.fullmatch(r"[A-Z]+", phase):
            raise TransientError(f"{answer.host} did not say how the query stands")
        return phase

    def _run(self) -> Answer:
        answer = self.connections.post_tap(f"{self.address}/phase", {"PHASE": "RUN"})
        return check_answer(answer, what="the start of the query", expected=(200, 303))

    def _read_error(self) -> str:
        with suppress(ArchiveError):
            answer = self._follow(f"{self.address}/error")
            if answer.status == 200 and answer.body:
                return read_reason(answer)
        with suppress(ArchiveError):
            return read_reason(self._follow(self.address))
        return ""

    def _follow(self, path: str) -> Answer:
        answer = self.connections.get_tap(path, until=self.patience.ends)
        for _ in range(5):
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307) or not location:
                break
            if not location.startswith("http") and not location.startswith("async/"):
                location = f"{self.address}/{location.lstrip('/')}"
            answer = self.connections.get_tap(location, until=self.patience.ends)
        return answer

    def read_result(self) -> Table:
        """Fetch the result once.

        Raises
        ------
        TransientError
            If it is damaged.
        """
        answer = self._follow(f"{self.address}/results/result")
        check_answer(answer, what="the result of the query")
        table, self.overflow = parse_result(answer)
        return table

    def discard(self, *, abort: bool = False) -> None:
        """Do not leave the job behind on the server: at best, whatever it says."""
        if not abort and not self.connections.logged_in:
            return  # anonymous jobs go by themselves
        with suppress(ArchiveError, StoppedError):
            if abort:
                self.connections.post_tap(f"{self.address}/phase", {"PHASE": "ABORT"})
            if self.connections.logged_in:
                job = self.address.rpartition("/")[2]
                self.connections.post_tap("deletejobs", {"JOB_IDS": job})


def parse_result(answer: Answer) -> tuple[Table, bool]:
    """Turn a VOTable, perhaps packed with gzip, into a table.

    Returns
    -------
    table : Table
    overflow : bool
        Whether the server says that there was more.

    Raises
    ------
    TransientError
        If it is damaged.
    RefusedError
        If it is the server's error message.
    """
    from astropy.io.votable import parse

    body = answer.body
    try:
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        plain = Answer(answer.status, answer.headers, body, answer.host)
        check_answer(plain, what="the result of the query")
        with ignore_warnings():  # oddities that do not stop astropy
            votable = parse(io.BytesIO(body), verify="ignore")
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
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TransientError(
            f"{answer.host} sent a damaged result of the query ({reason})"
        ) from error
    table.meta.clear()
    return table, any(value == "OVERFLOW" for value, _ in words)


def _to_votable(table: Table) -> str:
    """Write a table for upload: as text, because astroquery's multipart form is text."""
    from astropy.io.votable import from_table, writeto

    stream = io.BytesIO()
    with ignore_warnings():
        writeto(from_table(table), stream, tabledata_format="tabledata")
    return stream.getvalue().decode("utf-8")
