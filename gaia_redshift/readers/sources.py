"""What did the user give? Files, tables or `XPSpectra` to read, or what the archive is asked for.

Every command and function asks here: `is_for_archive`, `is_query`, `is_id`, and `iter_sources` for
the files, tables and spectra one by one.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._files import expand_path
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import find_id_name, find_position_names
from gaia_redshift.readers.content import STANDARD, take_file
from gaia_redshift.readers.formats import ACCEPTED, EXTENSIONS, has_ending
from gaia_redshift.readers.tables import is_table, list_columns
from gaia_redshift.spectra import FluxVectors, XPSpectra

__all__ = [
    "is_for_archive",
    "is_id",
    "is_id_list",
    "is_query",
    "is_sky_coord",
    "iter_sources",
    "list_inputs",
    "name_source",
]

logger = logging.getLogger(__name__)

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
