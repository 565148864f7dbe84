"""Spectra and tables from the Gaia archive (the only part of the package that uses the network).

``fetch`` (the public functions) turns what is ``wanted`` into source ids and ``stream``s their
spectra in ``chunks`` of ``datalink`` requests, through the ``cache``; ``jobs`` runs queries. Names
of the data releases are in ``releases``, addresses and time-outs in ``settings``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia_redshift.archive.account import FetchAccount, FetchStatus
    from gaia_redshift.archive.connection import open_gaia
    from gaia_redshift.archive.fetch import fetch_spectra, fetch_with_account, open_stream
    from gaia_redshift.archive.jobs import run_query
    from gaia_redshift.archive.mirror import use_mirror
    from gaia_redshift.archive.queries import build_query, describe_queries, query_catalogue
    from gaia_redshift.archive.settings import ArchiveSettings
    from gaia_redshift.archive.wanted import read_ids

_HOMES = {
    "ArchiveSettings": "settings",
    "FetchAccount": "account",
    "FetchStatus": "account",
    "build_query": "queries",
    "describe_queries": "queries",
    "fetch_spectra": "fetch",
    "fetch_with_account": "fetch",
    "open_gaia": "connection",
    "open_stream": "fetch",
    "query_catalogue": "queries",
    "read_ids": "wanted",
    "run_query": "jobs",
    "use_mirror": "mirror",
}

__all__ = [
    "ArchiveSettings",
    "FetchAccount",
    "FetchStatus",
    "build_query",
    "describe_queries",
    "fetch_spectra",
    "fetch_with_account",
    "open_gaia",
    "open_stream",
    "query_catalogue",
    "read_ids",
    "run_query",
    "use_mirror",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gaia_redshift.archive' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"gaia_redshift.archive.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
