"""What the doubles of small web services share: a server, a log of requests, faults on order."""

from __future__ import annotations

import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from doubles.gaia_archive import MAINTENANCE, Fault, Request, _read_form

__all__ = ["Reply", "ServiceDouble"]

Reply = tuple[int, str, bytes]
"""Status, content type, body."""


class ServiceDouble:
    """A server on 127.0.0.1; subclasses say what it answers.

    Faults are those of `doubles.gaia_archive.Fault` that are not about zips: ``status``,
    ``reset``, ``truncate``, ``never``, ``html``, and ``body`` (HTTP 200 with ``fault.body``).
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()

    def answer(self, path: str, fields: dict[str, str], files: dict[str, bytes]) -> Reply:
        raise NotImplementedError

    def change(self, fault: Fault, body: bytes) -> bytes:
        """Return the body as the fault wants it."""
        return body

    def __enter__(self) -> Any:
        double = self

        class Handler(_Handler):
            service = double

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that has gone away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def take_fault(self, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.endpoint, path):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: ServiceDouble

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        service, parts = self.service, urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fields = dict(parse_qsl(parts.query, keep_blank_values=True))
        form, files = _read_form(self.headers.get("Content-Type", ""), raw)
        fields.update(form)
        fault = service.take_fault(parts.path)
        seen = Request(self.command, parts.path, fields, dict(self.headers))
        seen.fault = fault.kind if fault else None
        with service.lock:
            service.requests.append(seen)
        kind = fault.kind if fault else ""
        if kind == "never":
            service.closing.wait()
            self.close_connection = True
            return
        if kind == "reset":
            linger = struct.pack("ii", 1, 0)  # closing then sends a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
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
