"""Whole files as astropy's tables: of predictions, of any scalar columns, and lists of source ids.

`read_table` reads what `gaia_redshift.write_table` wrote, `read_columns` what anybody did.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._files import expand_path, one_line
from gaia_redshift._quiet import import_tables, preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import choose_layouts, open_fits, read_parquet_infos
from gaia_redshift.readers.columns import ReadOptions, set_masks_apart
from gaia_redshift.readers.content import Content, open_path, take_file
from gaia_redshift.readers.formats import iter_content_blocks, sniff_format
from gaia_redshift.readers.hdf5 import check_dataset
from gaia_redshift.readers.values import build_kept_columns, fold_masks, to_scalars, to_source_ids
from gaia_redshift.readers.votable import FITSInsideError, parse_votable
from gaia_redshift.tables import table_format
from gaia_redshift.tables.arrow import is_number, take_numbers
from gaia_redshift.tables.columns import (
    GRID_KEY,
    META_KEY,
    replace_column,
    settle_types,
    stack_tables,
)
from gaia_redshift.tables.hdf5 import HDF5_PATH
from gaia_redshift.tables.types import cast_column, simplify_column

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["READERS", "read_columns", "read_ids", "read_table"]

logger = logging.getLogger(__name__)

_BETWEEN = re.compile(r"[\s,;]+")
_WORD = re.compile(r"[\"']?(?:gaia\s*e?dr\d\s+)?[+-]?\d+[\"']?", re.IGNORECASE)
_ID = re.compile(r"\d{10,}")
"""So many digits are in no name of a column: a first line with them is no header."""
_LEAST = 10**9
"""Several numbers in a line are ids if all are as large as Gaia's; `id,17` is a table's row."""


@preserve_settings()
def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table that `write_table` wrote, with its provenance, masks, units and UCDs.

    Parameters
    ----------
    path : path
        ``-`` is standard input.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If the ending is unknown or the file cannot be read.
    """
    import_tables()
    source = take_file(path)
    piped = source != Path(path)  # without an ending
    kind = sniff_format(open_path(source)) if piped else table_format(path)
    try:
        table = READERS[kind](source)
    except Exception as error:
        raise InputError(f"cannot read {os.fspath(path)} as {kind}: {one_line(error)}") from error
    for name in table.colnames:
        if name.startswith("redshift_cnn") and table[name].dtype.kind == "f":
            table[name].info.format = ".4f"  # as shown; they hold every digit
    return table


def _restore(table: Table, description: str | bytes | None) -> Table:
    """Give a table read from a file what `describe_table` noted."""
    if description is None:
        return table
    noted = json.loads(description)
    table.meta.clear()
    table.meta.update(noted["meta"])
    for name, about in noted["columns"].items():
        if name not in table.colnames:
            continue
        _restore_mask(table, name, about.get("masked"))
        _restore_type(table, name, about.get("dtype"))
        column = table[name]
        if "unit" in about:
            column.unit = about["unit"]
        if "description" in about:
            column.info.description = about["description"]
        column.info.meta = {key: about[key] for key in ("ucd", GRID_KEY) if key in about}
    return table


def _restore_mask(table: Table, name: str, kind: str | None) -> None:
    """Mask the empty texts of formats without masked ones; make FITS's 0, 1 and null boolean."""
    from astropy.table import MaskedColumn

    values = np.ma.asarray(table[name])
    if kind == "U" and not np.ma.is_masked(values):
        table[name] = MaskedColumn(values.data, mask=values.data == "")
    elif kind == "b" and values.dtype.kind == "i":
        table[name] = MaskedColumn(values.data == 1, mask=values.mask)


def _restore_type(table: Table, name: str, noted: str | None) -> None:
    """Give integers and short floats back the type that the format does not have."""
    if noted is None or table[name].dtype.str[1:] == noted:
        return
    values = np.ma.asarray(table[name])
    mask = np.ma.getmaskarray(values)
    if values.dtype.kind == "U":
        mask = mask | (np.ma.getdata(values) == "")
    replace_column(
        table, name, cast_column(np.ma.MaskedArray(values.data, mask=mask), np.dtype(noted))
    )


def _read_ecsv(path: Path) -> Table:
    from astropy.table import Table

    return Table.read(path, format="ascii.ecsv")


def _read_fits(path: Path) -> Table:
    from astropy.table import Table

    with open_fits(open_path(path)) as (tables, _):
        hdu, _ = choose_layouts(tables, ReadOptions(spectra=False), str(path))[0]
        table = Table.read(hdu)
        _make_native(table)
        return _restore(table, hdu.header.get("GRZMETA"))


def _make_native(table: Table) -> None:
    """Turn bytes into text (astropy's own way loses masks), and numbers into this machine's."""
    for name in table.colnames:
        dtype = getattr(table[name], "dtype", np.dtype("O"))
        if dtype.kind == "S" or not dtype.isnative:
            replace_column(table, name, simplify_column(table[name], name))


def _read_votable(path: Path) -> Table:
    try:
        document = parse_votable(open_path(path).read(), str(path))
    except FITSInsideError:
        return read_columns(path)
    found = document.get_first_table()
    table = found.to_table(use_names_over_ids=True)
    for field in found.fields:
        if str(field.arraysize) == "1" and table[field.name].ndim == 2:  # one number, in words
            replace_column(table, field.name, table[field.name][:, 0])
        if field.datatype in ("char", "unicodeChar"):
            replace_column(table, field.name, simplify_column(table[field.name], field.name))
    infos = {info.name: info.value for info in document.resources[0].infos}
    return _restore(table, infos.get(META_KEY))


def _read_parquet(path: Path) -> Table:
    from astropy.table import Table
    from pyarrow import parquet

    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        content = file.read()
    columns: dict[str, Any] = {}
    for name in content.column_names:
        values = _take_arrow(content.column(name).combine_chunks(), name)
        if values is None:
            logger.info("%s: column '%s' holds %s and is left out", path, name, content[name].type)
        else:
            columns[name] = values
    table = Table()
    for name, values in fold_masks(columns, set_masks_apart(list(columns))[1]).items():
        hidden = np.ma.getmaskarray(np.ma.asarray(values)).any()
        table[name] = values if hidden else np.ma.getdata(values)
    for name, info in read_parquet_infos(content.schema).items():
        if name in table.colnames:
            table[name].unit, table[name].info.description = info.unit or None, info.description
    return _restore(table, (content.schema.metadata or {}).get(META_KEY.encode()))


def _take_arrow(column: Any, name: str) -> Any:
    """Return an arrow column as an array, masked where null; None where it is no table's column."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_fixed_size_list(kind) and not column.null_count and is_number(kind.value_type):
        data, null = (v.reshape(-1, kind.list_size) for v in take_numbers(column.flatten()))
        hidden = null | np.isnan(data) if data.dtype.kind == "f" else null
        return np.ma.MaskedArray(data, mask=hidden) if hidden.any() else data
    if pa.types.is_nested(kind):
        try:
            data = np.array(column.to_pylist())
        except ValueError:  # of different lengths
            return None
        return data if data.dtype.kind in "biuf" and data.ndim > 1 else None
    return to_scalars(column, name)[0]


def _read_hdf5(path: Path) -> Table:
    import h5py
    from astropy.table import Table

    with h5py.File(path) as file:
        link = file.get(HDF5_PATH, getlink=True)
        if not isinstance(link, h5py.HardLink):  # another program's
            return read_columns(path)
        check_dataset(file[HDF5_PATH], path.stat().st_size, str(path))
        description = file[HDF5_PATH].attrs.get(META_KEY)
    table = Table.read(path, format="hdf5", path=HDF5_PATH)
    _make_native(table)
    return _restore(table, description)


def read_columns(source: Path | Content) -> Table:
    """Read the scalar columns of a file of any kind that `read_spectra` reads, spectra or not.

    Of several tables that with source ids is taken, else that with positions, else the first.
    """
    from astropy.table import Table

    content = open_path(source) if isinstance(source, Path) else source
    tables = []
    for block in iter_content_blocks(content, ReadOptions(spectra=False)):
        table = build_kept_columns(block)
        tables.append(Table() if table is None else table)
    if not tables or not any(table.colnames for table in tables):
        raise InputError(f"{content.label}: holds no columns of numbers or text")
    return settle_types(stack_tables(tables))


READERS: dict[str, Callable[[Path], Table]] = {
    "ecsv": _read_ecsv,
    "fits": _read_fits,
    "votable": _read_votable,
    "parquet": _read_parquet,
    "hdf5": _read_hdf5,
    "csv": read_columns,
}


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
