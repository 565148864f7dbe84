"""Tables into and out of the database, and in the formats in which the Gaia archive answers.

The formats are as astroquery's reader expects them and its own test data shows them.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from astropy.table import Column, MaskedColumn, Table

from doubles.adql_geometry import AdqlError

__all__ = ["to_arrow", "to_astropy", "write_result"]


def to_arrow(table: Table) -> pa.Table:
    """Return a table for the database: exact integers, masked values as NULL, 2-D as arrays."""
    arrays = {}
    for name in table.colnames:
        column = table[name]
        mask = np.asarray(getattr(column, "mask", False))
        values = np.asarray(column.filled() if isinstance(column, MaskedColumn) else column)
        if values.ndim > 1:
            flat = values.reshape(len(values), -1)
            arrays[name] = pa.FixedSizeListArray.from_arrays(
                pa.array(flat.astype(flat.dtype.newbyteorder("=")).ravel()), flat.shape[1]
            )
            continue
        masked = np.broadcast_to(mask, values.shape)
        if values.dtype.kind in "SUO":
            texts = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
            texts = [
                None if hide or v is None else str(v) for v, hide in zip(texts, masked, strict=True)
            ]
            arrays[name] = pa.array(texts, pa.string())
        else:
            native = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("=")))
            arrays[name] = pa.array(native, mask=masked.copy())
    return pa.table(arrays)


def to_astropy(result: pa.Table) -> Table:
    """Return a result of the database as an astropy table; columns with a NULL are masked."""
    columns = []
    for name, chunked in zip(_unique(result.column_names), result.columns, strict=True):
        mask = np.asarray(chunked.is_null().to_numpy(zero_copy_only=False), dtype=bool)
        kind = chunked.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = np.array([v or "" for v in chunked.to_pylist()] or [], dtype=str)
        elif pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
            values = np.array(chunked.to_pylist())
            mask = np.zeros(len(values), dtype=bool)
        else:
            numbers = chunked.cast(pa.float64()) if pa.types.is_decimal(kind) else chunked
            empty = pa.scalar(False if pa.types.is_boolean(kind) else 0, numbers.type)
            values = numbers.fill_null(empty).to_numpy()
        columns.append(
            MaskedColumn(values, name=name, mask=mask) if mask.any() else Column(values, name=name)
        )
    return Table(columns)


def _unique(names: list[str]) -> list[str]:
    """Number the names that come twice, as in a join of two tables with ``*``."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def write_result(table: Table, form: str = "votable") -> tuple[str, bytes]:
    """Return the content type and the body of an answer, as the Gaia archive sends it.

    Parameters
    ----------
    table : Table
        What `AdqlDatabase.query` returned.
    form : {'votable', 'votable_plain', 'votable_gzip', 'csv', 'ecsv', 'fits', 'json'}
        The archive compresses ``votable_gzip``, ``fits`` and ``ecsv``.

    Raises
    ------
    AdqlError
        If the format is unknown.
    """
    if form not in _WRITERS:
        raise AdqlError(f'no formatter has been found for the given MIME type "{form}"')
    content_type, write = _WRITERS[form]
    plain = table.copy(copy_data=False)
    status = plain.meta.pop("QUERY_STATUS", "OK")
    body = write(plain, status)
    return content_type, gzip.compress(body, 1) if form in _COMPRESSED else body


_COMPRESSED = ("votable_gzip", "fits", "ecsv")


def _write_votable(table: Table, status: str, layout: str = "binary2") -> bytes:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    for name in table.colnames:  # its writer takes no object arrays and no empty width
        if table[name].dtype.kind == "U" and table[name].dtype.itemsize == 0:
            table[name] = table[name].astype("U1")
    tree = from_table(table)
    tree.resources[0].type = "results"
    tree.resources[0].infos.append(Info(name="QUERY_STATUS", value=status))
    stream = io.BytesIO()
    tree.to_xml(stream, tabledata_format=layout)
    return stream.getvalue()


def _write_plain(table: Table, status: str) -> bytes:
    return _write_votable(table, status, "tabledata")


def _write_fits(table: Table, status: str) -> bytes:
    stream = io.BytesIO()
    table.write(stream, format="fits")
    return stream.getvalue()


def _write_csv(table: Table, status: str) -> bytes:
    stream = io.StringIO()
    table.write(stream, format="ascii.csv")
    return stream.getvalue().encode()


def _write_ecsv(table: Table, status: str) -> bytes:
    stream = io.StringIO()
    table.write(stream, format="ascii.ecsv", delimiter=",")
    return stream.getvalue().encode()


def _write_json(table: Table, status: str) -> bytes:
    names = {
        "i8": "long",
        "i4": "int",
        "i2": "short",
        "f8": "double",
        "f4": "float",
        "b1": "boolean",
    }
    metadata = [
        {
            "name": name,
            "datatype": names.get(table[name].dtype.str[1:], "char"),
            "xtype": None,
            "arraysize": "*" if table[name].dtype.kind == "U" else None,
            "description": table[name].description,
            "unit": str(table[name].unit) if table[name].unit else None,
            "ucd": table[name].meta.get("ucd"),
            "utype": None,
        }
        for name in table.colnames
    ]

    def plain(value: object) -> object:
        if value is np.ma.masked or (isinstance(value, float) and not np.isfinite(value)):
            return None
        return value

    columns = [[plain(v) for v in table[name].tolist()] for name in table.colnames]
    data = [list(row) for row in zip(*columns, strict=True)]
    return json.dumps({"metadata": metadata, "data": data}).encode()


_WRITERS: dict[str, tuple[str, Callable[[Table, str], bytes]]] = {
    "votable": ("application/x-votable+xml", _write_votable),
    "votable_gzip": ("application/x-votable+xml", _write_votable),
    "votable_plain": ("application/x-votable+xml", _write_plain),
    "fits": ("application/fits", _write_fits),
    "csv": ("text/csv", _write_csv),
    "ecsv": ("text/x-ecsv", _write_ecsv),
    "json": ("application/json", _write_json),
}
