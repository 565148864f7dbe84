"""What not every installation has: libraries of extras, and ``research/``."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["find_version", "import_extra", "import_research"]


def find_version(package: str) -> str | None:
    """Return the version of an installed package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def import_extra(name: str, extra: str) -> Any:
    """Import a library that an extra of this package brings, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed ({error}): pip install 'gaia-redshift[{extra}]'"
        ) from error


def import_research(module: str, option: str) -> Any:
    """Import a module of ``research/``, or say what to run, for only a checkout holds it."""
    try:
        return importlib.import_module(f"research.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("research"):
            raise
        raise InputError(
            f"{option} is not part of the installed package: in a checkout of its source, with the"
            " same options, run: python -m gaia_redshift"
        ) from None
