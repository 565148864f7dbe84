"""The Gaia archive in this process: TAP+ and DataLink over HTTP on 127.0.0.1, with faults on order.

What it says and how follows astroquery's own test data, its client's code and what users have
quoted of the archive's refusals; the words about a release that is not open are made up. Jobs,
sessions and requests are kept for tests to look at.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from astropy.table import Table

from doubles.adql import AdqlDatabase, AdqlError, write_result
from doubles.gaia_products import pack_members, pack_spectra
from doubles.loopback import MAINTENANCE, Fault, LoopbackHandler, LoopbackServer, Request, read_form

__all__ = ["NEW_WORDS", "OLD_WORDS", "Fault", "GaiaArchiveDouble", "Request"]

MOST_IDS = 5000
OLD_WORDS = ("RAW", "INDIVIDUAL")
NEW_WORDS = ("DATAMODEL_STANDARD", "DATAMODEL_GAIA")
TAP = "/tap-server/tap/"


class GaiaArchiveDouble(LoopbackServer):
    """A server that answers as the archive does.

    Parameters
    ----------
    spectra : XPSpectra
        What DataLink has.
    gaia_source : Table
        ``source_id``, ``ra``, ``dec``, ``has_xp_continuous``, ...
    extra_tables : mapping of str to Table
        Further tables by their full names.
    users : mapping of str to str
        Passwords; logging in needs ``tls``.
    faults : sequence of Fault
        Also to be appended to later. The first that fits is taken.
    tls : ssl.SSLContext, optional
        Serve https.
    release, schema, retrieval_type : str
        Names of the data release.
    phases : sequence of str
        What a job says before it has ended, one at a time.
    starts_jobs : bool
        Whether ``PHASE=RUN`` works when a job is created (in DaCHS it does not).
    structures : sequence of str
        Names of the data structures that DataLink knows: `OLD_WORDS`, `NEW_WORDS`, or both.
    max_rows : int, optional
        Most rows of a result.
    closed : str
        What DataLink says of a release that is not open.
    """

    def __init__(
        self,
        spectra: Any,
        gaia_source: Table,
        extra_tables: Mapping[str, Table] | None = None,
        users: Mapping[str, str] | None = None,
        faults: Sequence[Fault] = (),
        *,
        tls: ssl.SSLContext | None = None,
        release: str = "Gaia DR3",
        schema: str = "gaiadr3",
        retrieval_type: str = "XP_CONTINUOUS",
        phases: Sequence[str] = ("QUEUED", "EXECUTING"),
        starts_jobs: bool = True,
        structures: Sequence[str] = NEW_WORDS,
        max_rows: int | None = None,
        closed: str = "",
    ) -> None:
        super().__init__(faults, tls)
        self.spectra = spectra
        self.row_of = {int(i): row for row, i in enumerate(spectra.source_id)}
        tables = {f"{schema}.gaia_source": gaia_source, **(extra_tables or {})}
        self.database = AdqlDatabase(tables)
        self.describe_itself()
        self.schema = schema
        self.users = dict(users or {})
        self.release, self.retrieval_type = release, retrieval_type
        self.phases, self.starts_jobs = tuple(phases), starts_jobs
        self.structures = tuple(structures)
        self.max_rows = max_rows
        self.closed = closed
        self.moved_to = ""  # an address to which everything redirects
        self.jobs: dict[str, dict[str, Any]] = {}
        self.sessions: dict[str, str] = {}
        self.answers: dict[tuple[int, ...], bytes] = {}  # made ready before, for timing

    def describe_itself(self) -> None:
        """Fill TAP_SCHEMA with the tables that there are."""
        rows = [
            (table, column, kind)
            for table, columns in self.database.columns.items()
            for column, kind in columns
        ]
        names = ("table_name", "column_name", "datatype")
        self.database.add_table("tap_schema.columns", Table(rows=rows, names=names))

    @property
    def url(self) -> str:
        return f"{self.base}/"

    @property
    def tap_url(self) -> str:
        return f"{self.url}tap-server/tap"

    @property
    def data_url(self) -> str:
        return f"{self.url}data-server/data"

    def of(self, endpoint: str) -> list[Request]:
        """Return the requests to an endpoint so far."""
        with self.lock:
            return [r for r in self.requests if re.search(endpoint, r.path)]

    @property
    def asked(self) -> Counter[int]:
        """How often DataLink was asked for each source."""
        return Counter(i for r in self.of("data-server/data") for i in r.ids)

    def pack(self, ids: Sequence[int], fields: Mapping[str, str], fault: Fault | None) -> bytes:
        """Return the zip for a request, as the fault wants it."""
        kind = fault.kind if fault else ""
        if not fault and tuple(ids) in self.answers:
            return self.answers[tuple(ids)]
        rows = np.array([self.row_of[i] for i in ids if i in self.row_of], dtype=np.intp)
        if fields.get("RETRIEVAL_TYPE") not in (self.retrieval_type, "ALL"):
            rows = rows[:0]
        if fault and kind == "short":
            rows = rows[: int(len(rows) * fault.fraction)]
        spectra = self.spectra[rows] if len(rows) else None
        form = "csv" if kind == "short_csv" else fields.get("FORMAT", "votable")
        structure = fields.get("DATA_STRUCTURE", "INDIVIDUAL")
        body = pack_spectra(spectra, structure, form, self.release, self.retrieval_type)
        if fault and kind == "short_csv" and spectra is not None:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                name = archive.namelist()[0]
                content = archive.read(name)
            body = pack_members([(name, content[: int(len(content) * fault.fraction)])])
        if fault and kind == "cut_zip":
            body = body[: int(len(body) * fault.fraction)]
        if fault and kind == "corrupt":
            middle = len(body) // 2
            body = (
                body[:middle]
                + bytes(b ^ 0x55 for b in body[middle : middle + 64])
                + body[middle + 64 :]
            )
        return body


def _error_votable(message: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><VOTABLE version="1.4"'
        ' xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
        f'<INFO name="QUERY_STATUS" value="ERROR">{escape(message)}</INFO></RESOURCE></VOTABLE>'
    ).encode()


class _Handler(LoopbackHandler):
    fault: Fault | None
    request_seen: Request

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    # --- one request -----------------------------------------------------------------------

    def _answer(self) -> None:
        archive = self.double
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields = dict(parse_qsl(parts.query, keep_blank_values=True))
        form, files = read_form(self.headers.get("Content-Type", ""), raw)
        fields.update(form)
        seen = Request(self.command, parts.path, fields, dict(self.headers), when=time.monotonic())
        if parts.path.endswith("/data"):
            seen.ids = [int(i) for i in re.findall(r"\d+", fields.get("ID", ""))]
        if "password" in fields:
            seen.fields = {**fields, "password": "***"}
        session = re.search(r"JSESSIONID=(\w+)", self.headers.get("Cookie", ""))
        seen.user = archive.sessions.get(session[1]) if session else None
        self.fault = archive.take_fault(parts.path)
        seen.fault = self.fault.kind if self.fault else None
        with archive.lock:
            archive.requests.append(seen)
        self.request_seen = seen
        try:
            if not self._fail():
                self._route(parts.path, fields, files)
        except AdqlError as error:
            self._send(400, _error_votable(str(error)), "application/x-votable+xml")
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def _fail(self) -> bool:
        """Do what the fault wants instead of answering; the others change the answer."""
        fault = self.fault
        if fault is None:
            return False
        if fault.kind == "late":
            self.double.closing.wait(fault.delay)
        if fault.kind == "never":
            self.keep_silent()
            return True
        if fault.kind == "reset":
            self.break_connection()
            return True
        if fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            message = "<ul><li><b>Message: </b>the double was told to fail</li></ul>"
            page = f"<html><head><title>Error {fault.status}</title></head>{message}</html>"
            body = fault.body or page.encode()
            self._send(fault.status, body, "text/html", **headers)
            return True
        if fault.kind == "html":
            self._send(200, fault.body or MAINTENANCE, "text/html")
            return True
        if fault.kind == "empty":
            self._send(200, b"", "application/zip")
            return True
        return False

    def _send(
        self, status: int, body: bytes = b"", kind: str = "text/plain", **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        fault = self.fault.kind if self.fault else ""
        if fault == "truncate" and status == 200:
            assert self.fault is not None
            self.wfile.write(body[: int(len(body) * self.fault.fraction)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "slow" and status == 200:
            assert self.fault is not None
            for i in range(10):
                self.wfile.write(body[len(body) * i // 10 : len(body) * (i + 1) // 10])
                self.wfile.flush()
                self.double.closing.wait(self.fault.delay / 10)
            return
        self.wfile.write(body)

    # --- what the archive does -------------------------------------------------------------

    def _route(self, path: str, fields: dict[str, str], files: dict[str, bytes]) -> None:
        archive = self.double
        if archive.moved_to:
            self._send(302, Location=archive.moved_to)
        elif path in ("/tap-server/login", "/data-server/login"):
            self._log_in(fields)
        elif path in ("/tap-server/logout", "/data-server/logout"):
            self._send(200)
        elif path == "/data-server/data":
            self._send_products(fields)
        elif path == f"{TAP}sync":
            kind, body = self._run(fields, files)
            self._send(200, body, kind)
        elif path == f"{TAP}async" and self.command == "POST":
            self._make_job(fields, files)
        elif path.startswith(f"{TAP}async/"):
            self._serve_job(path.removeprefix(f"{TAP}async/"), fields)
        elif path == f"{TAP}deletejobs":
            for job in fields.get("JOB_IDS", "").split(","):
                archive.jobs.pop(job, None)
            self._send(200)
        elif path == f"{TAP}tables":
            self._send(200, self._describe_tables(fields.get("tables")), "text/xml")
        elif path == f"{TAP}capabilities":
            self._send(200, self._describe_capabilities(), "text/xml")
        elif path == f"{TAP}availability":
            self._send(200, _AVAILABLE, "text/xml")
        elif path == f"{TAP}notification":
            self._send(200, b"notification=this is a double\n")
        elif path == "/tap-server/Upload":
            self._upload(fields, files)
        else:
            self._send(404, b"<html><head><title>404 Not Found</title></head></html>", "text/html")

    def _log_in(self, fields: dict[str, str]) -> None:
        user, password = fields.get("username", ""), fields.get("password", "")
        if self.double.users.get(user) != password or not password:
            page = b"<html><head><title>Bad credentials</title></head></html>"
            self._send(401, page, "text/html")
            return
        session = uuid.uuid4().hex
        self.double.sessions[session] = user
        self._send(200, b"OK", Set_Cookie=f"JSESSIONID={session}; Path=/; Secure; HttpOnly")

    def _send_products(self, fields: dict[str, str]) -> None:
        ids = self.request_seen.ids
        refusal = self._refuse_products(len(ids), fields)
        if refusal:
            said = f"Code: -1, msg: {refusal}"
            words = (
                f"Error 500:\n{said}\n\nCannot process request: '{self.double.data_url}' (req:"
                f" Reqid: anonymous1706309619337, retrieval access: DIRECT, retrieval type:"
                f" {fields.get('RETRIEVAL_TYPE')}, compression: null), for user: UwsJobOwner{{}},"
                f"  due to: {said}"
            )
            self._send(500, words.encode(), "text/plain")
            return
        body = self.double.pack(ids, fields, self.fault)
        name = f'attachment;filename="{int(time.time() * 1000)}O-result.zip"'
        self._send(200, body, "application/zip", Content_Disposition=name)

    def _refuse_products(self, n: int, fields: dict[str, str]) -> str:
        double = self.double
        structure = fields.get("DATA_STRUCTURE", double.structures[0])
        if n > MOST_IDS:
            return f"Number of items requested {n} exceeds the maximum allowed {MOST_IDS}"
        if structure not in double.structures:
            valid = ", ".join(double.structures)
            return f"Invalid Data Structure parameter: '{structure}', valid ones are: {valid}"
        if fields.get("RELEASE", double.release) != double.release:
            return double.closed or f"Invalid Release parameter: '{fields['RELEASE']}'"
        return ""

    def _run(self, fields: dict[str, str], files: dict[str, bytes]) -> tuple[str, bytes]:
        uploads = {}
        for spec in filter(None, fields.get("UPLOAD", "").split(";")):
            name, _, reference = spec.partition(",")
            content = files[reference.removeprefix("param:")]
            uploads[name] = Table.read(io.BytesIO(content), format="votable")
        limits = [int(fields[k]) for k in ("MAXREC",) if fields.get(k)]
        if self.double.max_rows is not None:
            limits.append(self.double.max_rows)
        query = fields.get("QUERY", "")
        result = self.double.database.query(query, uploads, min(limits) if limits else None)
        form = fields.get("FORMAT", "votable")
        # The archive packs plain "votable" with gzip, too.
        return write_result(result, "votable_gzip" if form == "votable" else form)

    def _make_job(self, fields: dict[str, str], files: dict[str, bytes]) -> None:
        name = f"{int(time.time() * 1000)}{uuid.uuid4().hex[:4]}O"
        job = {"fields": fields, "files": files, "polls": None, "user": self.request_seen.user}
        self.double.jobs[name] = job
        if fields.get("PHASE") == "RUN" and self.double.starts_jobs:
            self._start(job)
        self._send(303, Location=f"{self.double.tap_url}/async/{name}")

    def _start(self, job: dict[str, Any]) -> None:
        job["polls"] = 0
        try:
            job["result"] = self._run(job["fields"], job["files"])
        except AdqlError as error:
            job["error"] = str(error)

    def _phase(self, job: dict[str, Any]) -> str:
        if job.get("aborted"):
            return "ABORTED"
        if job["polls"] is None:
            return "PENDING"
        if job["polls"] < len(self.double.phases):
            job["polls"] += 1
            return self.double.phases[job["polls"] - 1]
        return "ERROR" if "error" in job else "COMPLETED"

    def _serve_job(self, path: str, fields: dict[str, str]) -> None:
        name, _, rest = path.partition("/")
        job = self.double.jobs.get(name)
        home = f"{self.double.tap_url}/async/{name}"
        if job is None:
            self._send(404, b"no such job")
        elif self.command == "DELETE":
            del self.double.jobs[name]
            self._send(303, Location=f"{self.double.tap_url}/async")
        elif rest == "phase" and self.command == "POST":
            if fields.get("PHASE") == "ABORT":
                job["aborted"] = True
            elif job["polls"] is None:
                self._start(job)
            self._send(303, Location=home)
        elif rest == "phase":
            self._send(200, self._phase(job).encode())
        elif rest == "results/result" and "result" in job:
            kind, body = job["result"]
            self._send(200, body, kind)
        elif rest == "results/result":
            self._send(303, Location=f"{home}/error")
        elif rest == "error":
            body = _error_votable(job.get("error", ""))
            self._send(200, body, "application/x-votable+xml")
        else:
            self._send(200, self._describe_job(name, job), "text/xml")

    def _describe_job(self, name: str, job: dict[str, Any]) -> bytes:
        phase = self._phase(job)
        more = ""
        if phase == "COMPLETED":
            home = f"{self.double.tap_url}/async/{name}"
            more = (
                '<uws:results><uws:result id="result" xlink:type="simple"'
                f' xlink:href="{home}/results/result"/></uws:results>'
            )
        if phase == "ERROR":
            more = (
                '<uws:errorSummary type="fatal" hasDetail="true"><uws:message>'
                f"{escape(job['error'])}</uws:message></uws:errorSummary>"
            )
        return _JOB.format(name=name, phase=phase, more=more).encode()

    def _upload(self, fields: dict[str, str], files: dict[str, bytes]) -> None:
        user = self.request_seen.user
        if user is None:
            self._send(401, b"<html><head><title>Log in first</title></head></html>", "text/html")
            return
        table = Table.read(io.BytesIO(next(iter(files.values()))), format="votable")
        self.double.database.add_table(f"user_{user}.{fields['TABLE_NAME']}", table)
        self._send(200, b"OK")

    def _describe_tables(self, wanted: str | None) -> bytes:
        parts = [
            '<vod:tableset xmlns:vod="http://www.ivoa.net/xml/VODataService/v1.1"'
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
            ' xmlns:esatapplus="http://esa.int/xml/EsaTapPlus">'
        ]
        for name, columns in self.double.database.columns.items():
            if wanted in (None, name):
                cells = "".join(
                    f'<column esatapplus:flags="0"><name>{column}</name>'
                    f'<dataType xsi:type="vod:VOTableType">{kind}</dataType></column>'
                    for column, kind in columns
                )
                schema = name.rpartition(".")[0]
                parts.append(
                    f"<schema><name>{schema}</name><table><name>{name}</name>{cells}</table>"
                    "</schema>"
                )
        return ("".join(parts) + "</vod:tableset>").encode()

    def _describe_capabilities(self) -> bytes:
        return _CAPABILITIES.format(url=self.double.tap_url).encode()


_JOB = (
    '<?xml version="1.0" encoding="UTF-8"?><uws:job version="1.1"'
    ' xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><uws:jobId>{name}</uws:jobId>'
    '<uws:ownerId xsi:nil="true"/><uws:phase>{phase}</uws:phase><uws:quote xsi:nil="true"/>'
    "<uws:executionDuration>5400</uws:executionDuration>{more}</uws:job>"
)
_AVAILABLE = (
    b'<?xml version="1.0"?><vosi:availability'
    b' xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">'
    b"<vosi:available>true</vosi:available></vosi:availability>"
)
_CAPABILITIES = (
    '<?xml version="1.0"?><vosi:capabilities'
    ' xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"'
    ' xmlns:vr="http://www.ivoa.net/xml/VOResource/v1.0"'
    ' xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1"'
    ' xmlns:tr="http://www.ivoa.net/xml/TAPRegExt/v1.0"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
    '<capability standardID="ivo://ivoa.net/std/TAP" xsi:type="tr:TableAccess">'
    '<interface role="std" xsi:type="vs:ParamHTTP"><accessURL use="base">{url}</accessURL>'
    "</interface><language><name>ADQL</name><version>2.0</version></language>"
    '<uploadMethod ivo-id="ivo://ivoa.net/std/TAPRegExt#upload-inline"/>'
    "</capability></vosi:capabilities>"
)

GaiaArchiveDouble.handler = _Handler
