"""Libraries that only extras of this package bring."""

from __future__ import annotations

import importlib
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["import_extra"]


def import_extra(name: str, extra: str) -> Any:
    """Import a library that an extra of this package brings, or say how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"{name} is not installed ({error}): pip install 'gaia-redshift[{extra}]'"
        ) from error
