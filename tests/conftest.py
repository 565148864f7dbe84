"""No test talks to anything but this machine, unless ``--remote-data`` is given."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path

import pytest

# For `research`, which is not installed; last, so that the installed package is what is tested.
sys.path.append(str(Path(__file__).parents[1]))


def pytest_addoption(parser):
    parser.addoption(
        "--remote-data", action="store_true", help="run the tests that need the live archive"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--remote-data"):
        return
    for item in items:
        if "remote_data" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs --remote-data"))


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch, tmp_path_factory):
    """What one test's server was learnt to say must not be believed of another's on its port."""
    folder = tmp_path_factory.getbasetemp() / "caches" / secrets.token_hex(6)
    monkeypatch.setenv("GAIA_REDSHIFT_CACHE_DIR", str(folder))


@pytest.fixture(autouse=True)
def _only_loopback(request, monkeypatch):
    if "remote_data" in request.keywords:
        return
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise OSError(f"tests may not connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
