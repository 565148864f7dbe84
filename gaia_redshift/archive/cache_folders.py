"""Where the cache is, how large it may be, and what is in it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from gaia_redshift.errors import InputError

__all__ = ["INDEX", "CacheFolder", "find_cache_root", "find_limit", "list_cache_folders"]

DEFAULT_LIMIT_GB = 20.0
INDEX = "index.sqlite"


def find_cache_root(cache: bool | str | os.PathLike[str] = True) -> Path:
    """Return the folder of the cache, which need not exist yet.

    Parameters
    ----------
    cache : True or path
        True: ``GAIA_REDSHIFT_CACHE_DIR`` if it is set, else astropy's place for caches
        (``$XDG_CACHE_HOME/gaia_redshift``, usually ``~/.cache/gaia_redshift``).

    Returns
    -------
    Path
    """
    if cache is not True:
        if isinstance(cache, bool) or not isinstance(cache, str | os.PathLike):
            raise InputError(f"cache takes True, False or a folder, not {cache!r}")
        return Path(os.fspath(cache)).expanduser().absolute()
    named = os.environ.get("GAIA_REDSHIFT_CACHE_DIR", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    from astropy.config import paths

    try:
        return Path(paths.get_cache_dir_path("gaia_redshift", ensure_exists=False))
    except (AttributeError, TypeError):  # astropy before version 8
        return Path(paths.get_cache_dir("gaia_redshift"))


def find_limit() -> float:
    """Return the size limit in bytes: ``GAIA_REDSHIFT_CACHE_GB``, else 20 GB."""
    text = os.environ.get("GAIA_REDSHIFT_CACHE_GB", "").strip()
    try:
        limit = float(text) if text else DEFAULT_LIMIT_GB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise InputError(f"GAIA_REDSHIFT_CACHE_GB must be a number of gigabytes, not '{text}'")
    return limit * 1e9


class CacheFolder:
    """One folder of the cache, for ``gaia-redshift cache``.

    Attributes
    ----------
    path : Path
    n_spectra, n_absent : int
        Sources with a spectrum, and sources known to have none.
    n_bytes : int
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_bytes = sum(f.stat().st_size for f in path.iterdir() if f.is_file())
        self.n_spectra = self.n_absent = 0
        uri = f"{(path / INDEX).as_uri()}?mode=ro"
        with suppress(sqlite3.Error):
            connection = sqlite3.connect(uri, uri=True)
            try:
                query = "SELECT status = 0, count(*) FROM sources GROUP BY 1"
                counts = dict(connection.execute(query).fetchall())
                self.n_spectra, self.n_absent = counts.get(1, 0), counts.get(0, 0)
            finally:
                connection.close()

    def clear(self) -> None:
        """Remove it; a process that is fetching goes on without what it kept."""
        for path in self.path.iterdir():
            if path.name.endswith((".npy", ".part")) or path.name.startswith(INDEX):
                with suppress(FileNotFoundError):
                    path.unlink()
        with suppress(OSError):
            self.path.rmdir()


def list_cache_folders(cache: bool | str | os.PathLike[str] = True) -> list[CacheFolder]:
    """Return the folders of the cache, one for each release and server.

    Parameters
    ----------
    cache : True or path
        As for `find_cache_root`.

    Returns
    -------
    list of CacheFolder
    """
    home = find_cache_root(cache) / "spectra"
    if not home.is_dir():
        return []
    return [CacheFolder(path) for path in sorted(home.iterdir()) if (path / INDEX).is_file()]
