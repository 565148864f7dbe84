"""Any file of a table, whole: catalogues of redshifts, csv files, and lists of source ids."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gaia_redshift._files import expand_path
from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import ReadOptions, to_source_ids
from gaia_redshift.readers.content import Content, open_path, take_file
from gaia_redshift.readers.formats import iter_content_blocks, sniff_format
from gaia_redshift.readers.kept import build_kept_columns

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["read_columns", "read_ids"]

_BETWEEN = re.compile(r"[\s,;]+")
_WORD = re.compile(r"[\"']?(?:gaia\s*e?dr\d\s+)?[+-]?\d+[\"']?", re.IGNORECASE)
_ID = re.compile(r"\d{10,}")
"""So many digits are in no name of a column: a first line with them is no header."""
_LEAST = 10**9
"""Several numbers in a line are ids if all are as large as Gaia's; `id,17` is a table's row."""


def read_columns(source: Path | Content) -> Table:
    """Read the scalar columns of a file of any kind that `read_spectra` reads, spectra or not.

    Of several tables that with source ids is taken, else that with positions, else the first.
    """
    from astropy.table import Table

    from gaia_redshift.tables.columns import settle_types, stack_tables

    content = open_path(source) if isinstance(source, Path) else source
    tables = []
    for block in iter_content_blocks(content, ReadOptions(spectra=False)):
        table = build_kept_columns(block)
        tables.append(Table() if table is None else table)
    if not tables or not any(table.colnames for table in tables):
        raise InputError(f"{content.label}: holds no columns of numbers or text")
    return settle_types(stack_tables(tables))


def read_ids(path: str | os.PathLike[str]) -> Table:
    """Read a file of source ids: one a line, or any table with a column ``source_id``.

    Parameters
    ----------
    path : path
        Text, csv, ecsv, FITS, VOTable, Parquet, HDF5, also packed with gzip or zip. Lines of text
        may hold ``Gaia DR3 4295806720``, quotes, and comments after ``#``.

    Returns
    -------
    Table
        Of one column, where it is a list.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    file = take_file(expand_path(path))
    content = open_path(file)
    if sniff_format(content) == "csv":
        ids = _read_list(content)
        if ids is not None:
            return ids
    return read_columns(content)


def _read_list(content: Content) -> Table | None:
    """Read a list of ids; None if it is a table, whose first line names columns."""
    from astropy.table import Table

    words: list[str] = []
    with content.open() as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.decode("utf-8", "replace").removeprefix("\ufeff").partition("#")[0]
            if line.strip().isdigit():  # nearly all of them
                words.append(line.strip())
                continue
            found = _WORD.findall(line)
            if _BETWEEN.sub("", _WORD.sub("", line)):
                if not words and not _ID.search(line):
                    return None
                raise InputError(
                    f"{content.label}, line {number}: '{line.strip()[:40]}' is no id; ids are"
                    " whole numbers, and lists of several columns begin with a line of their names"
                )
            ids = [word.strip("\"'").split()[-1] for word in found]
            if len(ids) > 1 and min(map(int, ids)) < _LEAST:
                raise InputError(
                    f"{content.label}, line {number}: has {len(ids)} numbers, which are not all"
                    " ids: begin the file with a line of names, one of them source_id"
                )
            if any(re.search(r"dr[12]\s", word, re.IGNORECASE) for word in found):
                raise InputError(
                    f"{content.label}, line {number}: '{line.strip()[:40]}' is of an earlier data"
                    " release, whose ids mean other sources"
                )
            words += ids
    if not words:
        raise InputError(f"{content.label}: holds no ids")
    return Table({"source_id": to_source_ids(words, content.label)})
