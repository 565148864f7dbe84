"""These tests need a real TAP server with the made-up tables: ``.ci/dachs/serve`` runs one."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path

import pytest
import requests

from integration.catalogue import Catalogue, make_catalogue

VARIABLE = "GAIA_REDSHIFT_TEST_TAP_URL"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    skip = pytest.mark.skip(reason=f"needs a TAP server's address in {VARIABLE}")
    # pyvo leaves the sockets of answers that it has read to the garbage collector.
    unclosed = [
        pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
        pytest.mark.filterwarnings(
            "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
        ),
    ]
    for item in items:
        if here in item.path.parents:
            for mark in unclosed if os.environ.get(VARIABLE) else [skip]:
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAIA_REDSHIFT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tap_url() -> str:
    """Address of the server, ending in ``/tap``."""
    return os.environ[VARIABLE].rstrip("/")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """What the server was filled with."""
    return make_catalogue()


@pytest.fixture(scope="session")
def service(tap_url):
    """The server as pyvo sees it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import pyvo
    with requests.Session() as session:
        yield pyvo.dal.TAPService(tap_url, session=session)
    gc.collect()
