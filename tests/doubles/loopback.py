"""A server on loopback that logs its requests and fails on order; every double is one."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["MAINTENANCE", "Fault", "LoopbackHandler", "LoopbackServer", "Request", "read_form"]

MAINTENANCE = (
    b"<!DOCTYPE html><html><head><title>Gaia archive: scheduled maintenance</title></head>"
    b"<body><h1>We will be back soon</h1></body></html>"
)


@dataclass
class Fault:
    """Something that goes wrong with a request.

    Parameters
    ----------
    kind : str
        ``status`` (an HTTP error), ``reset`` (the connection breaks before any answer),
        ``truncate`` (the body ends before its stated length), ``cut_zip`` (a zip cut short inside
        a whole answer), ``corrupt`` (bytes inside the zip changed), ``short`` (rows left out),
        ``short_csv`` (csv, cut in the middle of a row), ``slow`` (bytes in drips), ``late`` (after
        ``delay``), ``never`` (no answer), ``html`` (a page for people with HTTP 200), ``empty``.
    endpoint : str
        Regular expression found in the path.
    times : int
        How often it happens.
    skip : int
        Requests to let pass before.
    """

    kind: str
    endpoint: str = "data-server/data"
    times: int = 1
    skip: int = 0
    status: int = 500
    retry_after: str | None = None
    delay: float = 0.5
    fraction: float = 0.5
    body: bytes | None = None


@dataclass
class Request:
    """A request that came."""

    method: str
    path: str
    fields: dict[str, str]
    headers: dict[str, str]
    ids: list[int] = field(default_factory=list)
    user: str | None = None
    when: float = 0.0
    fault: str | None = None


class LoopbackServer:
    """A server on 127.0.0.1 for the length of a ``with`` block.

    Parameters
    ----------
    faults : sequence of Fault
        Also to be appended to later. The first that fits is taken.
    tls : ssl.SSLContext, optional
        Serve https.
    """

    handler: type[LoopbackHandler]

    def __init__(self, faults: Sequence[Fault] = (), tls: ssl.SSLContext | None = None) -> None:
        self.faults = list(faults)
        self.tls = tls
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> Any:
        bound = type("Bound", (self.handler,), {"double": self})

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that has gone away

        self.server = Server(("127.0.0.1", 0), bound)
        if self.tls is not None:
            self.server.socket = self.tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.base = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
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


class LoopbackHandler(BaseHTTPRequestHandler):
    """What handlers share: silence, and the two ways of giving no answer."""

    protocol_version = "HTTP/1.1"
    double: Any

    def log_message(self, *_: object) -> None:
        pass

    def keep_silent(self) -> None:
        """Give no answer until the server closes."""
        self.double.closing.wait()
        self.close_connection = True

    def break_connection(self) -> None:
        """Close with a reset."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()


def read_form(kind: str, raw: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Take a form apart: fields and files."""
    if not kind.startswith("multipart/"):
        return dict(parse_qsl(raw.decode(), keep_blank_values=True)), {}
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in raw.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        assert name is not None
        if b"filename=" in head:
            files[name[1].decode()] = content
        else:
            fields[name[1].decode()] = content.decode()
    return fields, files
