"""VOTable files: tabledata, binary and binary2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import BLOCK_ROWS, choose_layouts
from gaia_redshift.readers.columns import Block, ColumnInfo, ReadOptions
from gaia_redshift.readers.content import Content

__all__ = ["iter_votable_blocks"]


def iter_votable_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read the tables of a VOTable; it is parsed as a whole.

    Raises
    ------
    InputError
        If it is the archive's error message or holds no spectra.
    """
    import io

    from astropy.io.votable import parse

    data = content.read()
    if re.search(rb"<(?:\w+:)?STREAM\s[^>]*\bhref\s*=", data):
        raise InputError(
            f"{content.label}: its data lie elsewhere (STREAM href) and are not fetched from there"
        )
    if b"<!ENTITY" in data:  # could hide such an address, or grow without limit
        raise InputError(f"{content.label}: defines XML entities, which are refused for safety")
    # Oddities of a file that do not stop astropy from reading it say nothing about spectra.
    with ignore_warnings():
        votable = parse(io.BytesIO(data), verify="ignore")
    for resource in votable.resources:
        for info in resource.infos:
            if info.name == "QUERY_STATUS" and info.value == "ERROR":
                raise InputError(
                    f"{content.label}: is an error message of a server:"
                    f" {' '.join(str(info.content or 'no reason given').split())[:200]}"
                )
    tables = [(table, [f.name for f in table.fields]) for table in votable.iter_tables()]
    empty = True
    for table, layout in choose_layouts(tables, options, content.label):
        fields = {field.name: field for field in table.fields}
        infos = {
            field.name: ColumnInfo(
                str(field.unit) if field.unit else None, field.description, field.ucd
            )
            for field in table.fields
        }
        array = table.array
        for start in range(0, len(array), BLOCK_ROWS):
            empty = False
            columns = {
                name: _take_column(
                    array[fields[name].ID][start : start + BLOCK_ROWS], fields[name].datatype
                )
                for name in layout.names
            }
            yield Block(columns, layout, content.label, content.source, start + 1, infos)
    if empty:
        raise InputError(f"{content.label}: holds no sources (a table without rows)")


def _take_column(column: Any, datatype: str) -> Any:
    """Return numbers as they are; for objects let the mask hide only whole rows."""
    if column.dtype.kind == "f":  # astropy masks what is NaN
        return np.ma.filled(column, np.nan)
    if column.dtype.kind != "O":
        return column
    single = datatype == "float"  # astropy makes arrays of variable length double
    data = np.ma.getdata(column)
    hidden = np.ma.getmaskarray(column)
    cells = np.empty(len(data), dtype=object)
    for i, (cell, mask) in enumerate(zip(data, hidden, strict=True)):
        if np.size(cell) and not np.all(mask) and not (isinstance(cell, str) and not cell):
            cells[i] = np.ma.asarray(cell, dtype=np.float32) if single else cell
    return cells
