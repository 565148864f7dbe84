"""What the doubles of small web services share: a server, a log of requests, faults on order."""

from __future__ import annotations

import socket
from urllib.parse import parse_qsl, urlsplit

from doubles.loopback import MAINTENANCE, Fault, LoopbackHandler, LoopbackServer, Request, read_form

__all__ = ["Reply", "ServiceDouble"]

Reply = tuple[int, str, bytes]
"""Status, content type, body."""


class ServiceDouble(LoopbackServer):
    """A server on 127.0.0.1; subclasses say what it answers.

    Faults are those of `doubles.loopback.Fault` that are not about zips: ``status``,
    ``reset``, ``truncate``, ``never``, ``html``, and ``body`` (HTTP 200 with ``fault.body``).
    """

    def answer(self, path: str, fields: dict[str, str], files: dict[str, bytes]) -> Reply:
        raise NotImplementedError

    def change(self, fault: Fault, body: bytes) -> bytes:
        """Return the body as the fault wants it."""
        return body


class _Handler(LoopbackHandler):
    def do_GET(self) -> None:
        service, parts = self.double, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields = dict(parse_qsl(parts.query, keep_blank_values=True))
        form, files = read_form(self.headers.get("Content-Type", ""), raw)
        fields.update(form)
        fault = service.take_fault(parts.path)
        seen = Request(self.command, parts.path, fields, dict(self.headers))
        seen.fault = fault.kind if fault else None
        with service.lock:
            service.requests.append(seen)
        kind = fault.kind if fault else ""
        if kind == "never":
            self.keep_silent()
            return
        if kind == "reset":
            self.break_connection()
            return
        if fault and kind == "status":
            self._send((fault.status, "text/html", fault.body or b"<title>Error</title>"), fault)
        elif fault and kind == "html":
            self._send((200, "text/html", MAINTENANCE), fault)
        elif fault and kind == "body":
            self._send((200, "text/plain", fault.body or b""), fault)
        else:
            status, content_type, body = service.answer(parts.path, fields, files)
            if fault:
                body = service.change(fault, body)
            self._send((status, content_type, body), fault)

    do_POST = do_GET

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        status, content_type, body = reply
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if fault and fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        self.end_headers()
        if fault and fault.kind == "truncate":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)


ServiceDouble.handler = _Handler
