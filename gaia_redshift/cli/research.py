"""Options whose code made the documentation's numbers and stays in the source's checkout."""

from __future__ import annotations

import importlib
from typing import Any

from gaia_redshift.errors import InputError

__all__ = ["import_research"]


def import_research(module: str, option: str) -> Any:
    """Import a module of ``research/``, which no installed package holds.

    Raises `InputError` if this does not run in a checkout, with what to run instead.
    """
    try:
        return importlib.import_module(f"research.{module}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("research"):
            raise
        raise InputError(
            f"{option} is not part of the installed package: in a checkout of its source, with the"
            " same options, run: python -m gaia_redshift"
        ) from None
