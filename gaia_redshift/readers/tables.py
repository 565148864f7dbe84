"""Tables in memory (DataFrame, Table, pyarrow, structured array, dictionary) as blocks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift.errors import InputError
from gaia_redshift.readers.columns import (
    SPECTRA_ID_NAMES,
    Block,
    ColumnInfo,
    ReadOptions,
    cut_blocks,
    find_layout,
)
from gaia_redshift.readers.values import from_arrow
from gaia_redshift.tables.columns import split_places
from gaia_redshift.tables.types import simplify_column, unwrap_column

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "is_table",
    "iter_table_blocks",
    "list_columns",
    "open_table",
    "to_astropy",
]


def is_table(value: Any) -> bool:
    """Tell whether something is a table in memory of a kind that can be read."""
    if isinstance(value, Mapping):
        return True
    if isinstance(value, np.ndarray):
        return value.dtype.names is not None
    return (
        _is_a(value, "pandas", "DataFrame")
        or _is_a(value, "pyarrow", "Table")
        or _is_a(value, "astropy.table", "Table")
    )


def _is_a(value: Any, module: str, name: str) -> bool:
    """Test a type without importing its library: what was never imported cannot be an instance."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)


def list_columns(table: Any) -> list[str]:
    """Return the names of a table's columns, and of a DataFrame's index where it has one."""
    if isinstance(table, np.ndarray):
        return list(table.dtype.names or ())
    for attribute in ("colnames", "column_names"):
        if hasattr(table, attribute):
            return list(getattr(table, attribute))
    if hasattr(table, "columns"):
        index = getattr(getattr(table, "index", None), "name", None)
        return [str(name) for name in table.columns] + ([str(index)] if index else [])
    return [str(name) for name in table]


def to_astropy(table: Any) -> Table:
    """Take any table in memory as an astropy table of its own; integers stay integers."""
    from astropy.table import Table

    if isinstance(table, Table):
        return Table(table, copy=False).copy()
    opened, infos = open_table(table)
    columns = {name: from_arrow(column) for name, column in opened.items()}
    made = Table({name: values for name, values in columns.items() if np.ndim(values)})
    for name, info in infos.items():
        if name in made.colnames:
            made[name].unit, made[name].description = info.unit, info.description
    return made


def iter_table_blocks(table: Any, options: ReadOptions) -> Iterator[Block]:
    """Cut a table in memory into blocks."""
    label = type(table).__name__
    columns, infos = open_table(table)
    layout = find_layout(list(columns), options, label)
    if np.ndim(columns[layout.source_id]) == 0 and isinstance(table, Mapping):
        # One source, given as a scalar id with plain arrays.
        columns = {name: _wrap(value) for name, value in columns.items()}
    needed = {name: columns[name] for name in layout.names}
    lengths = {name: len(column) for name, column in needed.items()}
    n = lengths[layout.source_id]
    for name, length in lengths.items():
        if length != n:
            raise InputError(
                f"{label}: column '{name}' has {length} rows, '{layout.source_id}' has {n}"
            )
    if n == 0:
        raise InputError(f"{label}: holds no sources")
    about = {"label": label, "source": label, "infos": infos, "shared": True}
    yield from cut_blocks(n, lambda name, rows: needed[name][rows], layout, options, **about)


def _wrap(value: Any) -> Any:
    if np.ndim(value) == 0 or isinstance(value, str | bytes):
        return np.array([value])
    wrapped = np.empty(1, dtype=object)
    wrapped[0] = value
    return wrapped


def open_table(table: Any) -> tuple[dict[str, Any], dict[str, ColumnInfo]]:
    """Return columns that can be sliced, and what is known about them."""
    if isinstance(table, np.ndarray):
        return {name: table[name] for name in table.dtype.names or ()}, {}
    if _is_a(table, "astropy.table", "Table"):
        if any(hasattr(table[name], "icrs") for name in table.colnames):
            table = split_places(table)
        columns = {name: _open_astropy_column(table[name]) for name in table.colnames}
        return columns, {name: _read_info(table[name]) for name in table.colnames}
    if _is_a(table, "pyarrow", "Table"):
        from gaia_redshift.readers.binary import read_parquet_infos

        columns = {name: table[name] for name in table.column_names}
        return columns, read_parquet_infos(table.schema)
    if _is_a(table, "pandas", "DataFrame"):
        if str(table.index.name).lower() in SPECTRA_ID_NAMES:
            table = table.reset_index()
        return {str(name): _open_series(table[name], name) for name in table.columns}, {}
    infos = {str(n): _read_info(v) for n, v in table.items() if hasattr(v, "unit")}
    return {str(name): _open_value(value) for name, value in table.items()}, infos


def _read_info(column: Any) -> ColumnInfo:
    info = column.info
    unit = str(info.unit) if info.unit else None
    return ColumnInfo(unit, info.description, (info.meta or {}).get("ucd"))


def _open_astropy_column(column: Any) -> Any:
    if hasattr(column, "isot"):  # Time
        return simplify_column(column, "")
    return unwrap_column(column)


def _open_series(series: Any, name: Any) -> Any:
    if getattr(series, "ndim", 1) != 1:
        raise InputError(f"DataFrame: there are several columns named '{name}'")
    kind = series.dtype
    if isinstance(kind, np.dtype):
        return series.to_numpy()
    if hasattr(kind, "pyarrow_dtype") or hasattr(kind, "storage"):  # arrow types and strings
        import pyarrow as pa

        return pa.chunked_array([pa.array(series, from_pandas=True)])
    if kind.kind in "iufb":  # nullable Int64 and its like: never by way of float
        hidden = series.isna().to_numpy()
        filled = series.fillna(kind.type(0)).to_numpy(dtype=kind.numpy_dtype)
        return np.ma.MaskedArray(filled, mask=hidden)
    return series.astype(object).to_numpy()


def _open_value(value: Any) -> Any:  # noqa: PLR0911 (one per kind)
    if _is_a(value, "pandas", "Series"):
        return _open_series(value, value.name)
    if type(value).__module__.startswith("pyarrow"):
        return value
    if hasattr(value, "info") and hasattr(value, "dtype") and hasattr(value, "__array__"):
        return _open_astropy_column(value)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list | tuple):
        if value and all(isinstance(v, int) for v in value):
            return np.array(value, dtype=object)  # ids beyond int64 are told by their row
        try:
            return np.array(value)
        except ValueError:  # rows of different lengths
            cells = np.empty(len(value), dtype=object)
            cells[:] = list(value)
            return cells
    return value
