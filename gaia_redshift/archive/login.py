"""Credentials for the archive, from the places where astroquery looks for them; never logged."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["Credentials", "Login", "find_credentials"]

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
