"""Spectra and tables from the Gaia archive.

``fetch`` (the public functions) turns what is asked for (``sources``) into ids and streams their
spectra (``stream``) in chunks, by ``datalink`` requests, through the ``cache``; ``jobs`` runs
queries. Names of the data releases are in ``releases``, addresses and time-outs in ``settings``.
"""

from gaia_redshift.archive.account import FetchAccount, FetchStatus
from gaia_redshift.archive.client import open_gaia
from gaia_redshift.archive.fetch import fetch_spectra, fetch_with_account, open_stream
from gaia_redshift.archive.jobs import run_query
from gaia_redshift.archive.queries import build_query, describe_queries, query_catalogue
from gaia_redshift.archive.settings import ArchiveSettings, use_mirror
from gaia_redshift.readers.files import read_ids

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
