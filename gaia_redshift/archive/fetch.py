"""`fetch_spectra`: source ids, queries or positions to spectra, surely and resumably."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._display import tell
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.archive.account import FetchAccount
from gaia_redshift.archive.cache import SpectraCache
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.releases import DEFAULT_RELEASE, Release, find_release
from gaia_redshift.archive.settings import ArchiveSettings, Login, find_cache_root
from gaia_redshift.archive.sources import AskedSources, bring_over, resolve_sources
from gaia_redshift.archive.stream import FetchStream
from gaia_redshift.errors import GaiaRedshiftWarning, InputError, MissingColumnError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.readers.bands import flag_duplicates
from gaia_redshift.readers.columns import find_name, list_names, parse_keep
from gaia_redshift.spectra import XPSpectra

__all__ = ["fetch_spectra", "fetch_with_account", "open_stream"]

logger = logging.getLogger(__name__)

Cache = bool | str | os.PathLike[str]


@preserve_settings()
def fetch_spectra(
    sources: Any,
    *,
    release: str | Release = DEFAULT_RELEASE,
    keep: str | Sequence[str] | None = None,
    cache: Cache = True,
    offline: bool = False,
    radius: float = 1.0,
    settings: ArchiveSettings | None = None,
    login: Login = None,
    from_dr3: bool = False,
    progress: bool = False,
) -> XPSpectra:
    """Fetch BP/RP spectra from the Gaia archive.

    Parameters
    ----------
    sources : ids, ADQL, table, SkyCoord, or path
        One or many source ids (list, array, Series, ...); an ADQL query whose result has a
        ``source_id``; a table (astropy, pandas, pyarrow, dictionary) with ``source_id``, or with
        ``ra`` and ``dec`` in degrees; positions as a SkyCoord; the path of a file of ids.
    release : str
        "DR3" or "DR4". The ids must be those of this release.
    keep : "all", sequence of str, or None
        Columns of the table or of the query's result to keep in ``columns``. For positions there
        is also ``separation_gaia``, in arcsec.
    cache : bool or path
        True: keep what is fetched, and fetch nothing that is kept (where: see
        `gaia_redshift.archive.settings.find_cache_root`). A path: keep it in that folder.
        False: keep nothing.
    offline : bool
        Use the cache alone: what is not there has the flag ``fetch_failed``.
    radius : float, arcsec
        How far the nearest Gaia source may be from a position.
    settings : ArchiveSettings, optional
        Addresses, time-outs, tries, sizes.
    login : str, path, (str, str), optional
        A user name (the password comes from the keyring, or is asked for), a file of two lines,
        or user name and password. Public spectra need none.
    from_dr3 : bool
        The ids are DR3's, and are brought over to ``release``; they stay as ``dr3_source_id``.
    progress : bool
        Show a progress bar, and say how long a query has been waiting.

    Returns
    -------
    XPSpectra
        One row for each source asked for, in order, duplicates kept. A row without a spectrum has
        missing bands and one of the flags ``no_public_xp``, ``unknown_source_id``,
        ``fetch_failed``, ``no_gaia_source``.

    Raises
    ------
    ArchiveError
        If the archive answers nothing at all, refuses the query or the login. What has been
        fetched until then is in the cache.
    InputError
        If ``sources`` is none of the above.

    Notes
    -----
    DataLink serves at most 5,000 sources a request and leaves out silently what it does not have.
    Here every source is accounted for: see `fetch_with_account`.

    Examples
    --------
    >>> from gaia_redshift import fetch_spectra
    >>> fetch_spectra([5937083312263887616, 5853498713190525696])  # doctest: +SKIP
    <XPSpectra: 2 sources, BP+RP coefficients 55+55>
    """
    return fetch_with_account(
        sources,
        release=release,
        keep=keep,
        cache=cache,
        offline=offline,
        radius=radius,
        settings=settings,
        login=login,
        from_dr3=from_dr3,
        progress=progress,
    )[0]


@preserve_settings()
def fetch_with_account(
    sources: Any, *, keep: str | Sequence[str] | None = None, **options: Any
) -> tuple[XPSpectra, FetchAccount]:
    """Fetch spectra, and tell what became of each source.

    Parameters
    ----------
    sources, keep, **options
        As for `fetch_spectra`.

    Returns
    -------
    spectra : XPSpectra
    account : FetchAccount
        Counts, status and reason by source, a summary in words.

    Raises
    ------
    ArchiveError, InputError
        As `fetch_spectra`.
    """
    stream = open_stream(sources, keep=keep, **options)
    spectra = XPSpectra.concatenate(list(stream.blocks(stream.settings.chunk_size)))
    repeated = flag_duplicates(spectra.source_id)
    flags = spectra.flags | np.where(repeated, np.int32(QualityFlag.DUPLICATE_SOURCE_ID), 0)
    meta = {"inputs": list(dict.fromkeys(spectra.meta.get("inputs", [])))}
    return (
        replace(spectra, flags=flags.astype(np.int32), release=stream.release.name, meta=meta),
        stream.account,
    )


def open_stream(
    sources: Any,
    *,
    release: str | Release = DEFAULT_RELEASE,
    keep: str | Sequence[str] | None = None,
    cache: Cache = True,
    offline: bool = False,
    radius: float = 1.0,
    settings: ArchiveSettings | None = None,
    login: Login = None,
    from_dr3: bool = False,
    progress: bool = False,
) -> FetchStream:
    """Prepare to fetch spectra in blocks: ``stream.blocks(size)``, then ``stream.account``.

    Memory does not grow with the number of sources, but for some 50 bytes each.

    Parameters
    ----------
    sources, release, keep, cache, offline, radius, settings, login, progress
        As for `fetch_spectra`.

    Returns
    -------
    FetchStream

    Raises
    ------
    ArchiveError, InputError
        As `fetch_spectra`.
    """
    found = find_release(release)
    settings = settings or ArchiveSettings()
    opened: list[Connections] = []
    root = None if cache is False else find_cache_root(cache)

    def connect() -> Connections:
        if offline:
            raise InputError("a query or a position needs the archive: not possible when offline")
        if not opened:
            opened.append(Connections(settings, login, notes=root))
        return opened[0]

    if offline and cache is False:
        raise InputError("offline=True needs the cache")
    if not found.confirmed:
        warnings.warn(
            f"{found.label}: its names are a draft in this version; the archive is asked for its"
            f" tables, and for spectra of the type {found.retrieval_type}: update the package if it"
            " refuses, and see gaia-redshift doctor",
            GaiaRedshiftWarning,
            stacklevel=4,
        )
    kept = parse_keep(keep)
    notice = tell if progress else None
    asked = resolve_sources(sources, found, connect, radius=radius, notice=notice)
    if not len(asked):
        raise InputError("no sources asked for")
    always: tuple[str, ...] = ()
    if from_dr3:
        asked, always = bring_over(asked, found, connect()), ("dr3_source_id",)
    asked = AskedSources(asked.source_id, _select(asked, kept, always), asked.unmatched)
    return FetchStream(
        asked,
        found,
        settings,
        connect,
        cache=None if root is None else _open_cache(root, found, settings, offline),
        offline=offline,
        progress=progress,
    )


def _select(
    asked: AskedSources, keep: str | tuple[str, ...] | None, always: tuple[str, ...] = ()
) -> Any:
    if keep is None and not always:
        return None
    table = asked.columns
    have = [] if table is None else table.colnames
    if keep == "all":
        return table
    names = []
    for name in (*always, *(one for one in keep or () if one not in always)):
        actual = find_name(have, (name,))
        if actual is not None:
            names.append(actual)
        elif name != "source_id":
            raise MissingColumnError(
                f"no column '{name}' to keep; there are: {list_names(have)}", name
            )
    return table[names] if names and table is not None else None


def _open_cache(
    root: Path, release: Release, settings: ArchiveSettings, offline: bool
) -> SpectraCache | None:
    try:
        return SpectraCache(root, release, settings.gaia_data_url)
    except OSError as error:
        if offline:
            raise InputError(f"{root}: there is no cache to use offline ({error})") from error
        warnings.warn(
            f"{root}: cannot be used as cache ({error}): what is fetched is not kept",
            GaiaRedshiftWarning,
            stacklevel=5,
        )
        return None
