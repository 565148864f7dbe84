"""One clock and a bound on bytes, whatever a server does; proxies; addresses with passwords."""

import gzip
import http.server
import socket
import threading
import time

import pytest

from gaia_redshift.archive import ArchiveSettings
from gaia_redshift.archive.failures import RefusedError, TransientError, parse_result
from gaia_redshift.archive.web import TimedSession, to_answer
from gaia_redshift.errors import ArchiveError, InputError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
DRIPS = {
    "status line": (b"", b"HTTP/1.1 200 OK"),
    "a header": (b"HTTP/1.1 200 OK\r\n", b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaa"),
    "many headers": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "body of stated length": (HEAD + b"Content-Length: 100000\r\n\r\n", b"abcdefgh"),
    "body until the end": (HEAD + b"\r\n", b"abcdefgh"),
    "size of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"00000000"),
    "extension of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;aaaaaaaaaaaaaaa"),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


class RawServer:
    """Sends bytes, and then some others again and again."""

    def __init__(self, first=b"", again=b"", pause=0.0, piece=1):
        self.first, self.again, self.pause, self.piece = first, again, pause, piece
        self.closing = threading.Event()

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/tap"
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)

    def _serve(self):
        while not self.closing.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(self.first)
                    at = 0
                    while self.again and not self.closing.is_set():
                        piece = (self.again * 2)[at : at + self.piece]
                        connection.sendall(piece)
                        at = (at + self.piece) % len(self.again)
                        if self.pause:
                            self.closing.wait(self.pause)
                except OSError:
                    pass


@pytest.mark.parametrize("way", DRIPS)
def test_a_server_that_drips_is_left_at_the_deadline(way):
    with RawServer(*DRIPS[way], pause=0.05) as server:
        session = TimedSession(server.url, ArchiveSettings(timeout=10))
        started = time.monotonic()
        with session.asking("", started + 0.6), pytest.raises(TransientError, match="deadline"):
            session.get(f"{server.url}/x")
        assert time.monotonic() - started < 30
    assert not [t for t in threading.enumerate() if t.name == "gaia_redshift deadline"]


def test_making_a_connection_secure_cannot_take_for_ever():
    with RawServer(again=b"\x16\x03\x03\x40\x00", pause=0.05) as server:
        url = server.url.replace("http:", "https:")
        session = TimedSession(url, ArchiveSettings(timeout=10))
        started = time.monotonic()
        with session.asking("", started + 0.6), pytest.raises(TransientError):
            session.get(f"{url}/x")
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_body_is_refused_at_the_bound(chunked):
    head = HEAD + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")
    block = b"10000\r\n" + bytes(65536) + b"\r\n" if chunked else bytes(65536)
    with RawServer(head, block, piece=len(block)) as server:
        session = TimedSession(server.url, ArchiveSettings(largest_answer=5_000_000))
        with pytest.raises(RefusedError, match=r"more than 0.005 GB.*largest_answer"):
            session.get(server.url)


def test_a_bomb_in_a_result_is_refused():
    from gaia_redshift.archive.failures import Answer

    bomb = gzip.compress(bytes(20_000_000))
    with pytest.raises(RefusedError, match="unpacks to more than"):
        parse_result(Answer(200, {}, bomb), most=1_000_000)


def test_a_bomb_in_the_transfer_is_refused():
    body = gzip.compress(bytes(20_000_000))
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with RawServer(head + body) as server:
        session = TimedSession(server.url, ArchiveSettings(largest_answer=1_000_000))
        with pytest.raises(RefusedError, match="sent more than"):
            session.get(server.url)


def test_another_thread_breaks_off_a_hanging_request():
    with RawServer(pause=1) as server:
        session = TimedSession(server.url, ArchiveSettings(timeout=30))
        server.first, server.again = b"", b" "
        server.pause = 20
        threading.Timer(0.3, session.abort).start()
        started = time.monotonic()
        with pytest.raises(ArchiveError):
            session.post(server.url, data={"a": "b"})
        assert time.monotonic() - started < 15
        with pytest.raises(ArchiveError):
            session.get(server.url)


def test_the_proxy_of_the_environment_is_used(monkeypatch):
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"by proxy")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{proxy.server_port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        session = TimedSession("http://archive.example/tap", ArchiveSettings())
        assert to_answer(session.get("http://archive.example/tap/x")).body == b"by proxy"
        proxy.shutdown()
    assert seen == ["http://archive.example/tap/x"]
    with pytest.raises(ArchiveError, match=r"archive.example .*proxy") as caught:
        session.get("http://archive.example/tap/x")
    assert "secret" not in str(caught.value)


def test_addresses_hold_no_passwords():
    with pytest.raises(InputError, match=r"gaia_tap_url must not hold a user name") as caught:
        ArchiveSettings(gaia_tap_url="https://ada:secret@gea.esac.esa.int/tap-server/tap")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("async/7", "http://a.org:81/x/tap/async/7"),
        ("/x/tap/async/7", "http://a.org:81/x/tap/async/7"),
        ("http://inside.local/x/tap/async/7", "http://a.org:81/x/tap/async/7"),
        ("https://a.org/x/tap/async/7", "https://a.org/x/tap/async/7"),
        ("http://evil.org/steal", None),
        ("https://a.org.evil.org/y", None),
        ("file:///etc/passwd", None),
    ],
)
def test_where_a_redirect_may_lead(target, goes_to):
    session = TimedSession("http://a.org:81/x/tap", ArchiveSettings())
    if goes_to is None:
        with pytest.raises(RefusedError, match="not followed"):
            session.rebase(target)
    else:
        assert session.rebase(target) == goes_to


def test_each_request_has_a_connection_of_its_own():
    """A server closes one after its answer, maybe just as the next request is sent on it."""
    places = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            places.append(self.client_address)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            self.close_connection = False  # for now

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        session = TimedSession(f"http://127.0.0.1:{server.server_port}", ArchiveSettings())
        for _ in range(3):
            assert to_answer(session.get(session.url)).body == b"ok"
        assert len(set(places)) == 3
        session.close()
        server.shutdown()
