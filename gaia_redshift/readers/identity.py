"""By what work is recognised when it goes on: what it was asked to be, and what its inputs hold.

What was asked for stands as JSON in the folder of the unfinished work. An input is known by its
content, not only by its size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._files import write_text
from gaia_redshift.errors import InputError
from gaia_redshift.readers.sources import is_query

__all__ = ["as_json", "find_changes", "identify", "identify_path", "read_request", "write_request"]

WHOLE = 16 << 20
"""Files up to here are hashed as a whole, larger ones at three places, beside size and time."""
PIECE = 1 << 20


def write_request(path: Path, request: Mapping[str, Any]) -> None:
    """Write down what was asked for; the file appears whole."""
    write_text(path, json.dumps(request, indent=1, default=str) + "\n")


def read_request(path: Path) -> dict[str, Any] | None:
    """Return what was asked for before; None if nothing was, {} if the file is damaged."""
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return {}


def as_json(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as `read_request` would."""
    return dict(json.loads(json.dumps(request, default=str)))


def find_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys in which two requests differ, both as JSON holds them."""
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def identify(source: Any) -> dict[str, Any]:
    """Say in JSON what a file, a folder, a table in memory, `XPSpectra`, ids or a query holds."""
    if is_query(source):
        return {"query": " ".join(source.split())}
    if isinstance(source, str | os.PathLike):
        return identify_path(Path(source))
    digest = hashlib.sha256()
    _add(digest, source)
    return {
        "table": type(source).__name__,
        "rows": len(source) if hasattr(source, "__len__") else 1,
        "sha256": digest.hexdigest(),
    }


def identify_path(path: Path) -> dict[str, Any]:
    """Say in JSON what a file or folder holds; its name counts, where it lies does not."""
    try:
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            states = [(str(f.relative_to(path)), f.stat()) for f in files]
            listed = [f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in states]
            text = "\n".join(listed).encode()
            return {
                "folder": path.name,
                "files": len(files),
                "sha256": hashlib.sha256(text).hexdigest(),
            }
        status = path.stat()
        about: dict[str, Any] = {"file": path.name, "bytes": status.st_size}
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            if status.st_size <= WHOLE:
                digest.update(stream.read())
            else:
                about["mtime_ns"] = status.st_mtime_ns
                for place in (0, status.st_size // 2, status.st_size - PIECE):
                    stream.seek(place)
                    digest.update(stream.read(PIECE))
    except FileNotFoundError as error:
        raise InputError(f"no such file: '{path}'") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
    return {**about, "sha256": digest.hexdigest()}


def _add(digest: Any, value: Any) -> None:
    """Add what a value holds, column by column."""
    from gaia_redshift.readers.tables import is_table, open_table

    if is_table(value):
        for name, column in open_table(value)[0].items():
            digest.update(name.encode("utf-8", "surrogatepass"))
            _add(digest, column)
    elif hasattr(value, "bp") and hasattr(value, "rp"):  # XPSpectra
        for part in (value.source_id, value.bp.coefficients, value.rp.coefficients):
            _add(digest, part)
        for part in (value.bp.errors, value.rp.errors, value.columns):
            _add(digest, part)
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        array = np.ma.asarray(value)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array.filled()).tobytes())
        digest.update(np.ma.getmaskarray(array).tobytes())
    elif hasattr(value, "to_pylist"):
        digest.update(repr(value.to_pylist()).encode())
    else:
        with np.printoptions(threshold=2**31):  # nothing left out
            shown = repr(value.tolist() if hasattr(value, "tolist") else value)
        digest.update(shown.encode("utf-8", "backslashreplace"))
