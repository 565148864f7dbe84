"""Where the archive is, how patiently it is asked, who asks, and where what it gave is kept.

Credentials come from the places where astroquery looks for them, and are never logged.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gaia_redshift.errors import InputError

__all__ = [
    "MIRRORS",
    "ArchiveSettings",
    "Credentials",
    "Login",
    "Mirror",
    "find_cache_root",
    "find_credentials",
    "use_mirror",
]

GAIA_TAP_URL = "https://gea.esac.esa.int/tap-server/tap"
GAIA_DATA_URL = "https://gea.esac.esa.int/data-server/data"
XMATCH_URL = "http://cdsxmatch.u-strasbg.fr/xmatch/api/v1/sync"
VIZIER_TAP_URL = "https://tapvizier.cds.unistra.fr/TAPVizieR/tap"
SKYSERVER_URL = "https://skyserver.sdss.org"
_ADDRESSES = ("gaia_tap_url", "gaia_data_url", "xmatch_url", "vizier_tap_url", "skyserver_url")
MOST_IDS = 5000
"""DataLink refuses requests for more sources than this."""
MOST_PARALLEL = 4
"""More requests at a time would be impolite."""
MIRROR_IDS = 1000
"""Sources in one query to a mirror."""


def _named(variable: str, default: str, *, shown: bool = True) -> Any:
    """Return a field whose default a variable of the environment may replace."""
    name = f"GAIA_REDSHIFT_{variable}"
    return field(default_factory=lambda: os.environ.get(name, "").strip() or default, repr=shown)


@dataclass(frozen=True)
class ArchiveSettings:
    """Addresses, time-outs and sizes for requests to the Gaia archive and to SDSS catalogues.

    Parameters
    ----------
    gaia_tap_url : str
        TAP service; by default the environment's ``GAIA_REDSHIFT_TAP_URL``, else ESA's.
    gaia_data_url : str
        DataLink's data service; by default ``GAIA_REDSHIFT_DATA_URL``, else ESA's.
    xmatch_url, vizier_tap_url, skyserver_url : str
        Services of `crossmatch_sdss`; by default ``GAIA_REDSHIFT_XMATCH_URL``,
        ``GAIA_REDSHIFT_VIZIER_TAP_URL`` and ``GAIA_REDSHIFT_SKYSERVER_URL``, else those of CDS
        and SDSS.
    timeout : float, s
        Longest time without a single byte from the server.
    deadline : float, s
        Longest time for one chunk of spectra, tries and waits included.
    query_deadline : float, s
        Longest time for one query, from sending it to having its result.
    tries : int
        How often a request is made that fails in a way that may pass (no connection, 500, 503, a
        damaged answer).
    first_wait, longest_wait : float, s
        Wait before the second try, doubled before each further one up to ``longest_wait``. A
        server's ``Retry-After`` is waited for if it is longer.
    parallel : int
        Chunks asked for at a time, at most 4.
    chunk_size : int
        Sources in one request, at most 5,000.
    spectra_table : str
        A table of coefficients in the TAP service to take spectra from, instead of DataLink; see
        `gaia_redshift.archive.use_mirror`.
    tap_token : str
        Sent to the TAP service as ``Authorization: Token ...``, which mirrors use; by default
        ``GAIA_REDSHIFT_TAP_TOKEN``.
    largest_answer : int, bytes
        Answers that are larger, or unpack to more, are refused.
    first_poll, longest_poll : float, s
        Time between looks at a running query: it grows from the first to the second.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    gaia_tap_url: str = _named("TAP_URL", GAIA_TAP_URL)
    gaia_data_url: str = _named("DATA_URL", GAIA_DATA_URL)
    xmatch_url: str = _named("XMATCH_URL", XMATCH_URL)
    vizier_tap_url: str = _named("VIZIER_TAP_URL", VIZIER_TAP_URL)
    skyserver_url: str = _named("SKYSERVER_URL", SKYSERVER_URL)
    timeout: float = 60.0
    deadline: float = 900.0
    query_deadline: float = 3600.0
    tries: int = 6
    first_wait: float = 2.0
    longest_wait: float = 120.0
    parallel: int = 2
    chunk_size: int = 2000
    spectra_table: str = ""
    tap_token: str = _named("TAP_TOKEN", "", shown=False)
    largest_answer: int = 2_000_000_000
    first_poll: float = 0.25
    longest_poll: float = 5.0

    def __post_init__(self) -> None:
        for name in _ADDRESSES:
            parts = urlsplit(getattr(self, name))
            if parts.username is not None or parts.password is not None:
                raise InputError(
                    f"{name} must not hold a user name or password: they would end in logs and"
                    " files; log in with --login (login=...)"
                )
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise InputError(f"{name} must be an http(s) address, not '{getattr(self, name)}'")
        for name, most in (("chunk_size", MOST_IDS), ("parallel", MOST_PARALLEL), ("tries", 1000)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"{name} must be a whole number from 1 to {most}, not {value!r}")
        for name in (
            *("timeout", "deadline", "query_deadline", "first_poll", "longest_poll"),
            "largest_answer",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        if not 0 <= self.first_wait <= self.longest_wait:
            raise InputError("first_wait must not be negative nor more than longest_wait")


@dataclass(frozen=True)
class Mirror:
    """The address of a TAP service, and its table that has the columns of DataLink's files."""

    url: str
    table: str = "gaiadr3.xp_continuous_mean_spectrum"


# Not confirmed: read in what users of these services have published, never tried from here.
MIRRORS = {
    "aip": Mirror("https://gaia.aip.de/tap"),
    "ari": Mirror("https://gaia.ari.uni-heidelberg.de/tap"),
}
"""Those known, by name."""


def use_mirror(name: str, settings: ArchiveSettings | None = None) -> ArchiveSettings:
    """Return settings that ask a mirror instead of the archive.

    Parameters
    ----------
    name : str
        One of ``MIRRORS``, or ``ADDRESS#TABLE`` of any TAP service with such a table (without
        ``#TABLE``, DR3's usual one).
    settings : ArchiveSettings, optional

    Returns
    -------
    ArchiveSettings

    Raises
    ------
    InputError
        If it is neither.
    """
    address, _, table = name.partition("#")
    mirror = MIRRORS.get(name.lower()) or (Mirror(address, table) if table else Mirror(address))
    if urlsplit(mirror.url).scheme not in ("http", "https"):
        raise InputError(
            f"no mirror '{name}'; known are {', '.join(MIRRORS)}, or the address of a TAP service"
        )
    if not re.fullmatch(r'[\w."]+', mirror.table):
        raise InputError(f"'{mirror.table}' is no name of a table")
    settings = settings or ArchiveSettings()
    return replace(
        settings,
        gaia_tap_url=mirror.url.rstrip("/"),
        gaia_data_url=mirror.url.rstrip("/"),
        spectra_table=mirror.table,
        chunk_size=min(settings.chunk_size, MIRROR_IDS),
    )


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


Login = Any
"""None, a user name, a path of a file of credentials, (user, password), or `Credentials`."""


@dataclass(frozen=True)
class Credentials:
    """A user name and a password that no message shows."""

    user: str
    password: str = field(repr=False)


def find_credentials(login: Login, host: str) -> Credentials | None:
    """Find user name and password.

    Parameters
    ----------
    login : None, str, path, (str, str), or Credentials
        None: nobody logs in. A path: a file of two lines, user name and password, as astroquery's
        ``credentials_file``. A user name: the password comes from the keyring, under the name
        ``astroquery:HOST`` that astroquery uses, or is asked for on the terminal.
    host : str
        The archive's host.

    Returns
    -------
    Credentials or None

    Raises
    ------
    InputError
        If they cannot be found. No message shows a password.
    """
    if login is None or isinstance(login, Credentials):
        return login
    if isinstance(login, tuple | list):
        if len(login) == 2 and all(isinstance(part, str) and part for part in login):
            return Credentials(*login)
        raise InputError("login takes (user, password), a user name, or a file of credentials")
    if not isinstance(login, str | os.PathLike) or not os.fspath(login):
        raise InputError(
            f"login takes (user, password), a user name, or a file of credentials, not"
            f" {type(login).__name__}"
        )
    path = Path(os.fspath(login)).expanduser()
    if path.is_file():
        return _read_file(path)
    if isinstance(login, os.PathLike) or os.sep in login:
        raise InputError(f"no such file of credentials: '{path}'")
    password = _look_in_keyring(host, login) or _ask(host, login)
    if password is None:
        raise InputError(
            f"no password for '{login}': store it with `keyring set astroquery:{host} {login}`, or"
            " give a file with user name and password in two lines"
        )
    return Credentials(login, password)


def _read_file(path: Path) -> Credentials:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a file of credentials") from error
    if len(lines) < 2 or not lines[0].strip() or not lines[1].strip():
        raise InputError(f"{path}: must hold two lines, the user name and the password")
    return Credentials(lines[0].strip(), lines[1].strip())


def _look_in_keyring(host: str, user: str) -> str | None:
    try:
        import keyring

        return keyring.get_password(f"astroquery:{host}", user)
    except Exception:  # no keyring, or none that works here: its back ends raise anything
        return None


def _ask(host: str, user: str) -> str | None:
    if not sys.stdin.isatty():
        return None
    from getpass import getpass

    return getpass(f"Password of {user} at {host}: ") or None
