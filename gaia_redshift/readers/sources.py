"""What a caller may hand over as sources of spectra, put in order: files, tables, `XPSpectra`."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._files import expand_path
from gaia_redshift.errors import InputError
from gaia_redshift.readers.formats import EXTENSIONS
from gaia_redshift.readers.pipes import STANDARD, take_file
from gaia_redshift.readers.tables import is_table
from gaia_redshift.spectra import FluxVectors, XPSpectra

__all__ = ["ADQL", "iter_sources"]

logger = logging.getLogger(__name__)

_ACCEPTED = (
    "a file of XP spectra (csv, ecsv, FITS, VOTable, avro, Parquet, HDF5, zip), a folder or glob"
    " of such files, a DataFrame, a Table, a dictionary of arrays, XPSpectra, or a list of these"
)
# Possessive: what comments it has taken it does not try to take otherwise.
ADQL = re.compile(r"(?:\s+|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*+\*/)*+(?:select|with)\s", re.IGNORECASE)
"""How a query begins."""


def iter_sources(sources: Any) -> Iterator[Path | XPSpectra | Any]:
    """Yield one by one the files, tables and `XPSpectra` that ``sources`` stands for.

    Raises
    ------
    InputError
        If a file does not exist, nothing is given, or it is something else.
    """
    if isinstance(sources, XPSpectra) or is_table(sources):
        yield sources
    elif isinstance(sources, str | os.PathLike):
        yield from _expand_path(sources)
    elif _is_several(sources):
        if isinstance(sources, list | tuple) and sources and all(map(_is_id, sources)):
            raise _refuse_archive("a list of source_id")
        empty = True
        for source in sources:
            empty = False
            yield from iter_sources(source)
        if empty:
            raise InputError(f"no sources given (an empty {type(sources).__name__})")
    elif _is_id(sources) or (
        getattr(sources, "ndim", 0) == 1 and getattr(sources, "dtype", np.dtype("O")).kind in "iu"
    ):
        raise _refuse_archive("source_id")
    elif isinstance(sources, FluxVectors):
        raise InputError("FluxVectors are sampled already: give them to predict_redshift")
    else:
        module, name = type(sources).__module__, type(sources).__name__
        shown = name if module == "builtins" else f"{module}.{name}"
        raise InputError(f"{shown} cannot be read; give {_ACCEPTED}")


def _is_several(sources: Any) -> bool:
    """Tell lists and the like, also of paths in an array or Series, and what yields sources."""
    if isinstance(sources, list | tuple):
        return True
    if isinstance(sources, Iterator):
        return not hasattr(sources, "read")  # an open file would yield its lines
    if getattr(sources, "ndim", 0) != 1 or not hasattr(sources, "dtype"):
        return False
    return all(isinstance(source, str | os.PathLike) for source in sources)


def _is_id(source: Any) -> bool:
    if isinstance(source, str):
        return source.strip().isdigit() and not os.path.exists(source)
    return isinstance(source, int | np.integer) and not isinstance(source, bool)


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
    if ADQL.match(text):
        raise _refuse_archive("an ADQL query")
    if _is_id(text):
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
            known = path.name.lower().removesuffix(".gz").endswith(tuple(EXTENSIONS))
            (files if known else others).append(path)
    if not files:
        raise InputError(
            f"{folder}: no files of XP spectra in this folder ({', '.join(EXTENSIONS)})"
        )
    if others:
        logger.info("%s: skipped %d files of other kinds", folder, len(others))
    return files
