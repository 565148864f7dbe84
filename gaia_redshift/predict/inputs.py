"""What is to be done, and a description by which a later run knows that it is the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._version import __version__
from gaia_redshift.model.prior import MagnitudePrior
from gaia_redshift.readers.identity import identify, identify_path
from gaia_redshift.readers.sources import is_for_archive

if TYPE_CHECKING:
    from gaia_redshift.predict.settings import Settings

__all__ = ["compare_plans", "describe_plan", "to_json"]


def describe_plan(sources: Sequence[Any], settings: Settings) -> dict[str, Any]:
    """Return what tells this run from another one, as plain numbers and strings."""
    model = settings.model
    options = {
        **settings.asked,
        "grid": settings.grid,
        "any_release": settings.any_release,
        "keep": settings.keep,
        "optional": settings.optional,
        "flux_errors": settings.errors,
        "block_size": settings.block_size,
        # How long to wait for the archive changes nothing.
        "archive": {key: settings.archive.get(key) for key in ("release", "radius")},
    }
    return {
        "version": __version__,
        "model": f"{model.name} {model.version} {model.sha256}",
        "options": {key: _describe_value(value) for key, value in sorted(options.items())},
        "inputs": [_describe_input(source) for source in sources],
    }


def compare_plans(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return what differs, in words; None if nothing does."""
    for key in ("version", "model"):
        if before.get(key) != now[key]:
            return f"another {key} ({before.get(key)}, now {now[key]})"
    old, new = before.get("options", {}), now["options"]
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if changed:
        return f"other options ({', '.join(changed)})"
    if len(before["inputs"]) != len(now["inputs"]):
        return f"{len(before['inputs'])} inputs, now {len(now['inputs'])}"
    for was, is_now in zip(before["inputs"], now["inputs"], strict=True):
        if was.get("what") != is_now["what"]:
            return f"the input {was.get('what')} where {is_now['what']} is now"
        if was != is_now:
            return f"another content of {is_now['what']} (it has changed since)"
    return None


def _describe_input(source: Any) -> dict[str, Any]:
    if isinstance(source, Path):
        return {**identify_path(source), "what": os.path.abspath(source)}
    what = type(source).__name__
    if isinstance(source, str):
        return {"what": source}
    if is_for_archive(source):
        return {**identify(source), "what": what}
    return {"what": what, "in_memory": True}


def _describe_value(value: Any) -> Any:
    """Return a value as JSON holds it: long ones as a digest of their content."""
    if isinstance(value, MagnitudePrior):  # its text leaves most of the numbers out
        value = [value.log_flux, value.edges, value.probability]
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, Mapping):
        return {str(key): _describe_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_describe_value(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value):  # a prior: known by its values
        return _describe_value(np.asarray(value(np.linspace(0, 1, 101)), dtype=float))
    text = repr(value)
    if " at 0x" in text:  # says nothing of the content, and differs each time
        text = type(value).__name__
    return text if len(text) <= 200 else _digest(text.encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def to_json(plan: Mapping[str, Any]) -> str:
    """Write a plan down; reading it gives an equal one."""
    return json.dumps(plan, sort_keys=True, default=str)
