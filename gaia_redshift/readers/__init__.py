"""Read BP/RP spectra from any local form (`read_spectra`), or block by block (`iter_spectra`).

Modules: ``sources`` (what may be given, and whether it is the same as before), ``formats`` with
``content``, ``text``, ``binary``, ``hdf5``, ``votable`` and ``avro`` (files and zips to blocks of
columns), ``tables`` (those in memory to blocks), ``columns`` (which column is what), ``arrays`` and
``values`` (columns of arrays, and of one value a row), ``bands`` (blocks to `XPSpectra`), ``files``
(whole files to tables of any columns).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gaia_redshift._display import show_progress
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.readers.bands import build_spectra, flag_duplicates
from gaia_redshift.readers.columns import ReadOptions, Skip, list_names, parse_keep
from gaia_redshift.readers.content import ReadMeter, open_path
from gaia_redshift.readers.formats import iter_file_blocks, sniff_format
from gaia_redshift.readers.sources import iter_sources
from gaia_redshift.readers.tables import iter_table_blocks
from gaia_redshift.readers.values import build_kept_columns
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.columns import settle_types
from gaia_redshift.tables.types import Note, join_notes, note_column

__all__ = ["flag_duplicates", "iter_spectra", "parse_keep", "read_spectra"]


@preserve_settings()
def read_spectra(
    sources: Any,
    *,
    correlations: bool = True,
    errors: bool = True,
    keep: str | Sequence[str] | None = None,
    progress: bool = False,
) -> XPSpectra:
    """Read BP/RP spectra (coefficients, errors, correlations) from any local form.

    Parameters
    ----------
    sources : path, table, XPSpectra, or list or iterator of these
        Files as the archive's DataLink delivers them (csv, ecsv, FITS, VOTable, each also packed
        with gzip, and zips of them), DPAC's avro, Parquet and HDF5 of the same columns; a folder
        or glob of such files; pandas DataFrames, astropy Tables, pyarrow Tables, structured arrays
        and dictionaries of arrays; a list or iterator of any of these. The kind of a file is told
        by its content.
    correlations : bool
        Read the correlations of the coefficients. They are most of a file: without them reading
        is several times as fast, but flux errors then ignore them.
    errors : bool
        Read errors (and correlations).
    keep : "all", sequence of str, or None
        Other scalar columns to keep in ``columns``, with units and descriptions where known.
    progress : bool
        Show a progress bar.

    Returns
    -------
    XPSpectra
        One row per row of the input, in order, duplicates included. What is wrong in a single row
        is a bit in ``flags``. `XPSpectra` come back as they are.

    Raises
    ------
    InputError
        If a file or table as a whole cannot be read.

    Notes
    -----
    Numbers in text are read exactly as `float` reads them, correlations in text then rounded to
    32 bits, the archive's own precision.
    """
    options = ReadOptions(errors, correlations, parse_keep(keep), settle=False)
    if isinstance(sources, XPSpectra):
        found = _select_columns(sources, options)
    else:
        found = XPSpectra.concatenate(list(_iter_parts(sources, options, progress)))
        if found.columns is not None:
            settle_types(found.columns)
    repeated = flag_duplicates(found.source_id)
    if repeated.any():
        flags = found.flags | np.where(repeated, np.int32(QualityFlag.DUPLICATE_SOURCE_ID), 0)
        found = replace(found, flags=flags.astype(np.int32))
    return found


def iter_spectra(
    sources: Any,
    *,
    block_size: int = 10_000,
    correlations: bool = True,
    errors: bool = True,
    keep: str | Sequence[str] | None = None,
    optional: Sequence[str] = (),
    start: int = 0,
    progress: bool = False,
    meter: ReadMeter | None = None,
    settle: bool = True,
) -> Iterator[XPSpectra]:
    """Read BP/RP spectra in blocks, in order.

    Memory does not grow with the input for csv, ecsv, Parquet, HDF5, avro and plain FITS; VOTables
    and compressed binary files are held whole.

    Parameters
    ----------
    sources, correlations, errors, keep, progress
        As for `read_spectra`.
    block_size : int
        Number of sources in a block; the last one may have fewer.
    optional : sequence of str
        Further columns to keep where there are any.
    start : int
        Rows to pass over at the beginning; they are not parsed.
    meter : ReadMeter, optional
        To be told how far reading of a text file has come.
    settle : bool
        Give kept columns of csv files the types that all of a file proves; files then are read
        twice, where columns are kept. Without, they stay text.

    Yields
    ------
    XPSpectra
        Without ``DUPLICATE_SOURCE_ID``, which needs the whole input: see `flag_duplicates`.

    Raises
    ------
    InputError
        If a file or table as a whole cannot be read. Blocks before a damaged place are yielded.
    """
    if block_size < 1:
        raise InputError(f"block_size is {block_size}; at least 1 source a block is needed")
    kept = parse_keep(keep), tuple(optional)
    options = ReadOptions(errors, correlations, *kept, Skip(start), meter, settle=settle)
    return _rebatch(_iter_parts(sources, options, progress), block_size)


def _rebatch(parts: Iterator[XPSpectra], block_size: int) -> Iterator[XPSpectra]:
    waiting: list[XPSpectra] = []
    n_waiting = 0
    for part in parts:
        rest = part
        while n_waiting + len(rest) >= block_size:
            taken = block_size - n_waiting
            whole = taken == len(rest)
            yield XPSpectra.concatenate([*waiting, rest if whole else rest[:taken]])
            waiting, n_waiting = [], 0
            rest = rest[taken:]
        if len(rest):
            waiting.append(rest)
            n_waiting += len(rest)
    if waiting:
        yield XPSpectra.concatenate(waiting)


def _iter_parts(sources: Any, options: ReadOptions, progress: bool) -> Iterator[XPSpectra]:
    with show_progress("reading", None, unit=" sources", shown=progress, leave=False) as count:
        for source in iter_sources(sources):
            if isinstance(source, XPSpectra):
                parts = iter([_select_columns(source, options)])
            else:
                parts = _read_one(source, options)
            for part in parts:
                if options.skip.take(len(part)):
                    continue
                rest = part[options.skip.n :] if options.skip.n else part
                options.skip.n = 0
                count(len(rest))
                yield rest


def _read_one(source: Any, options: ReadOptions) -> Iterator[XPSpectra]:
    blocks = (
        iter_file_blocks(source, options)
        if isinstance(source, Path)
        else iter_table_blocks(source, options)
    )
    types = _prove_types(source, options) if isinstance(source, Path) else {}
    for block in blocks:
        if options.skip.take(len(block)):
            continue
        spectra = build_spectra(block, options)
        if types and spectra.columns is not None:
            settle_types(spectra.columns, types)
        yield spectra


def _prove_types(path: Path, options: ReadOptions) -> dict[str, Note]:
    """Return notes of the kept columns that stay text otherwise, from a first reading."""
    if not options.settle or not (options.keep or options.optional):
        return {}
    if sniff_format(open_path(path)) not in ("csv", "ecsv", "zip"):
        return {}
    plain = ReadOptions(keep=options.keep, optional=options.optional, spectra=False)
    notes: dict[str, list[Note]] = {}
    for block in iter_file_blocks(path, plain):
        columns = build_kept_columns(block)
        for name in columns.colnames if columns is not None else ():
            notes.setdefault(name.lower(), []).append(note_column(columns[name]))  # type: ignore[index]
    return {name: join_notes(parts) for name, parts in notes.items()}


def check_columns(sources: Any, names: Sequence[str]) -> None:
    """Find out, before any work, whether a file, or the first of several, has these columns.

    Raises
    ------
    InputError
        If it cannot be read or lacks one.
    """
    if not isinstance(sources, str | os.PathLike | list | tuple):  # others can be read but once
        return
    for source in iter_sources(sources):
        if isinstance(source, Path):
            options = ReadOptions(errors=False, correlations=False, keep=tuple(names))
            next(iter_file_blocks(source, options), None)
        return


def _select_columns(spectra: XPSpectra, options: ReadOptions) -> XPSpectra:
    if not len(spectra):
        raise InputError("XPSpectra: holds no sources")
    if options.keep is None or options.keep == "all":
        return spectra
    names = [] if spectra.columns is None else spectra.columns.colnames
    for wanted in options.keep:
        if wanted not in names and wanted != "source_id":
            raise MissingColumnError(
                f"XPSpectra: no column '{wanted}' to keep; there are: {list_names(names)}", wanted
            )
    return spectra
