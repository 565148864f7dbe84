"""What did the user give? Files, tables or `XPSpectra` to read, or what the archive is asked for.

Every command and function asks here: `is_for_archive`, `is_query`, `is_id`, and `iter_sources` for
the files, tables and spectra one by one. Work that goes on knows its inputs again by their content
(`identify`), and what it was asked for by the JSON in its folder (`read_request`).
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._files import expand_path, write_text
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import find_id_name, find_position_names
from gaia_redshift.readers.content import STANDARD, take_file
from gaia_redshift.readers.formats import ACCEPTED, EXTENSIONS, has_ending
from gaia_redshift.readers.tables import is_table, list_columns, open_table
from gaia_redshift.spectra import FluxVectors, XPSpectra

__all__ = [
    "as_json",
    "find_changes",
    "identify",
    "identify_path",
    "is_for_archive",
    "is_id",
    "is_id_list",
    "is_query",
    "is_sky_coord",
    "iter_sources",
    "list_inputs",
    "name_source",
    "read_request",
    "write_request",
]

logger = logging.getLogger(__name__)

WHOLE = 16 << 20
"""Files up to here are hashed as a whole, larger ones at three places, beside size and time."""
PIECE = 1 << 20

_ACCEPTED = (
    f"a file of XP spectra ({ACCEPTED}), a folder or glob of such files, a DataFrame, a Table, a"
    " dictionary of arrays, XPSpectra, or a list of these"
)
# Possessive: what comments it has taken it does not try to take otherwise.
_ADQL = re.compile(r"(?:\s+|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*+\*/)*+(?:select|with)\s", re.IGNORECASE)
_SPECTRAL = re.compile(r"[br]p_(coef|spectrum|flux)|flux$")
"""How columns begin that only tables of spectra have."""


def is_query(source: Any) -> bool:
    """Tell a query in ADQL."""
    return isinstance(source, str) and _ADQL.match(source) is not None


def is_id(source: Any) -> bool:
    """Tell a source id, as a number or in digits; a file may be named so, too."""
    if isinstance(source, str):
        text = source.strip()
        return text.isascii() and text.isdigit() and not os.path.exists(source)
    return isinstance(source, int | np.integer) and not isinstance(source, bool)


def is_id_list(sources: Any) -> bool:
    """Tell several source ids, in whatever holds them; none are no list of ids."""
    if isinstance(sources, list | tuple | set | frozenset):
        return bool(sources) and all(map(is_id, sources))
    dtype = getattr(sources, "dtype", None)
    if dtype is None or getattr(sources, "ndim", 0) != 1 or not len(sources):
        return False
    if getattr(dtype, "kind", "") in "iu":
        return True
    return all(isinstance(one, str) and is_id(one) for one in sources)


def is_sky_coord(sources: Any) -> bool:
    """Tell an astropy SkyCoord without importing astropy's coordinates."""
    return type(sources).__name__ == "SkyCoord" and hasattr(sources, "icrs")


def is_for_archive(sources: Any) -> bool:
    """Tell whether sources must be fetched: ids, ADQL, or a table that has no spectra.

    Files are not: their content is not looked at, and a wrong file should not start a download.
    """
    if is_table(sources):
        names = list_columns(sources)
        if any(_SPECTRAL.match(name.lower().strip()) for name in names):
            return False
        placed = find_id_name(names) is not None or find_position_names(names) is not None
        return placed and not _nests_spectra(sources, names)
    return is_query(sources) or is_id(sources) or is_id_list(sources) or is_sky_coord(sources)


def _nests_spectra(table: Any, names: list[str]) -> bool:
    """Tell a table whose spectra lie in a column of records: they are not to be asked for."""
    for name in names:
        try:
            column = table[name]
        except (KeyError, IndexError):  # a DataFrame's index
            continue
        kind = str(getattr(column, "type", getattr(column, "dtype", "")))
        if "coef" in kind.lower():  # pyarrow's structs, nested-pandas
            return True
        if kind == "object" and len(column):
            first = np.asarray(column[:1], dtype=object)[0]
            if isinstance(first, Mapping) and any("coef" in str(key).lower() for key in first):
                return True
    return False


def list_inputs(sources: Any) -> list[Any]:
    """Return the single inputs: files (of folders and patterns), tables, what is to be fetched."""
    if is_for_archive(sources):
        return [sources]
    if isinstance(sources, list | tuple) and sources:
        return [single for source in sources for single in list_inputs(source)]
    return list(iter_sources(sources))


def iter_sources(sources: Any) -> Iterator[Path | XPSpectra | Any]:
    """Yield one by one the files, tables and `XPSpectra` that ``sources`` stands for."""
    if isinstance(sources, XPSpectra) or is_table(sources):
        yield sources
    elif isinstance(sources, str | os.PathLike):
        yield from _expand_path(sources)
    elif _is_several(sources):
        if is_id_list(sources):
            raise _refuse_archive("a list of source_id")
        empty = True
        for source in sources:
            empty = False
            yield from iter_sources(source)
        if empty:
            raise InputError(f"no sources given (an empty {type(sources).__name__})")
    elif is_id(sources) or is_id_list(sources):
        raise _refuse_archive("source_id")
    elif isinstance(sources, FluxVectors):
        raise InputError("FluxVectors are sampled already: give them to predict_redshift")
    else:
        module, name = type(sources).__module__, type(sources).__name__
        shown = name if module == "builtins" else f"{module}.{name}"
        raise InputError(f"{shown} cannot be read; give {_ACCEPTED}")


def name_source(source: Any) -> str:
    """Return what one input is called where it is told of: its path, or its type."""
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _is_several(sources: Any) -> bool:
    """Tell lists and the like, also of paths in an array or Series, and what yields sources."""
    if isinstance(sources, list | tuple):
        return True
    if isinstance(sources, Iterator):
        return not hasattr(sources, "read")  # an open file would yield its lines
    if getattr(sources, "ndim", 0) != 1 or not hasattr(sources, "dtype"):
        return False
    return all(isinstance(source, str | os.PathLike) for source in sources)


def _refuse_archive(what: str) -> InputError:
    return InputError(
        f"{what}: no spectra to read; fetch_spectra fetches them from the Gaia archive, and"
        f" predict_table does so by itself. Read are: {_ACCEPTED}"
    )


def _expand_path(source: str | os.PathLike[str]) -> Iterator[Path]:
    text = os.fspath(source)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    path = expand_path(text)
    if text == STANDARD or (text.strip() and os.path.exists(path)):
        yield from _list_folder(path) if path.is_dir() else [take_file(path)]
        return
    if is_query(text):
        raise _refuse_archive("an ADQL query")
    if is_id(text):
        raise _refuse_archive(f"source_id {text.strip()}")
    if glob.has_magic(text):
        found = sorted(name for name in glob.glob(str(path), recursive=True))
        files = [Path(name) for name in found if os.path.isfile(name)]
        if not files:
            raise InputError(f"no file matches '{text}'")
        yield from files
        return
    shown = text if len(text) <= 200 else text[:200] + "..."
    raise InputError(f"no such file: '{shown}'")


def _list_folder(folder: Path) -> list[Path]:
    if (folder / "dataset").is_dir():  # a HATS catalogue
        parts = sorted((folder / "dataset").rglob("*.parquet"))
        if found := [part for part in parts if not part.name.startswith(("_", "."))]:
            return found
    files: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            (files if has_ending(path.name) else others).append(path)
    if not files:
        raise InputError(
            f"{folder}: no files of XP spectra in this folder ({', '.join(EXTENSIONS)})"
        )
    if others:
        logger.info("%s: skipped %d files of other kinds", folder, len(others))
    return files


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
