"""HDF5: a group with a dataset per column, or a compound dataset; nothing outside the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gaia_redshift.errors import InputError
from gaia_redshift.readers.binary import choose_layouts
from gaia_redshift.readers.columns import (
    RA_NAMES,
    SPECTRA_ID_NAMES,
    Block,
    ColumnInfo,
    ReadOptions,
    cut_blocks,
    find_id_name,
)
from gaia_redshift.readers.content import Content

__all__ = ["check_dataset", "iter_hdf5_blocks"]

_YAML = ".__table_column_meta__"
DEFLATE = 1100
"""No compression that HDF5 has makes a file smaller than by this factor."""
SLACK = 64 << 20
"""Bytes that are never written, all of a fill value, take no place in a file."""


def iter_hdf5_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read HDF5: a group with a dataset per column, or a compound dataset (astropy, PyTables).

    Numeric DataFrames in pandas' fixed format are read too; its pickled objects are not.
    """
    import io

    import h5py

    source: Any = content.path if content.path is not None else io.BytesIO(content.read())
    size = content.path.stat().st_size if content.path is not None else len(source.getbuffer())
    with h5py.File(source, "r") as file:
        is_wanted = _has_id if options.spectra else bool
        tables = _find_hdf5_tables(file, h5py, is_wanted, size, content.label)
        if not tables and _has_pickles(file, h5py):
            raise InputError(
                f"{content.label}: holds objects pickled by pandas, which are not read for safety;"
                " save the DataFrame as Parquet"
            )
        if not tables:
            raise InputError(f"{content.label}: holds no table with a source_id column")
        candidates: list[tuple[Any, list[str]]] = [(table, list(table)) for table in tables]
        for table, layout in choose_layouts(candidates, options, content.label):
            n = len(table[layout.source_id])
            for name in layout.names:
                if len(table[name]) != n:
                    raise InputError(
                        f"{content.label}: dataset '{name}' has {len(table[name])} rows,"
                        f" '{layout.source_id}' has {n}"
                    )
            infos = {name: _hdf5_info(table[name]) for name in layout.names}
            about = {"label": content.label, "source": content.source, "infos": infos}
            yield from cut_blocks(n, partial(_read_rows, table), layout, options, **about)


class _Field:
    """One field of a compound dataset, or some columns of a 2-D one, read like a dataset."""

    def __init__(self, dataset: Any, field: Any, info: ColumnInfo | None = None) -> None:
        self.dataset, self.field = dataset, field
        self.attrs: dict[str, Any] = {} if info is None else vars(info)

    def __len__(self) -> int:
        return int(self.dataset.shape[0])

    def __getitem__(self, rows: slice) -> Any:
        if isinstance(self.field, int):
            return self.dataset[rows, self.field]
        return self.dataset[self.field, rows]


def _find_hdf5_tables(
    file: Any, h5py: Any, is_wanted: Callable[[Any], bool], size: int, label: str
) -> list[dict[str, Any]]:
    """Return every table below a group, as a mapping of names to what can be sliced."""
    tables: list[dict[str, Any]] = []
    seen: set[Any] = set()

    def open_members(group: Any) -> dict[str, Any]:
        members = {}
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise InputError(f"{label}: refused, its '{name}' is a link to another file")
            item = group.get(name)
            if item is None:  # a link to nothing
                continue
            if isinstance(item, h5py.Dataset):
                check_dataset(item, size, label)
            members[name] = item
        return members

    def visit(group: Any) -> None:
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:  # a group may hold itself
            return
        seen.add(place)
        members = open_members(group)
        if "axis0" in members and "block0_values" in members:  # pandas' fixed format
            table: dict[str, Any] = {}
            i = 0
            while f"block{i}_values" in members:
                values = members[f"block{i}_values"]
                if values.ndim == 2:
                    for j, name in enumerate(members[f"block{i}_items"][:]):
                        table[name.decode()] = _Field(values, j)
                i += 1
            if is_wanted(table):
                tables.append(table)
            return
        datasets = {k: v for k, v in members.items() if isinstance(v, h5py.Dataset)}
        columns = {k: v for k, v in datasets.items() if v.ndim >= 1 and not v.dtype.names}
        if is_wanted(columns):
            columns = _take_rows(columns)
            tables.append(columns)
        for dataset in datasets.values():
            if dataset.dtype.names and is_wanted(dataset.dtype.names):
                infos = _read_yaml(members.get(f"{dataset.name.rpartition('/')[2]}{_YAML}"))
                tables.append(
                    {name: _Field(dataset, name, infos.get(name)) for name in dataset.dtype.names}
                )
        for child in members.values():
            if isinstance(child, h5py.Group):
                visit(child)

    visit(file)
    return tables


def check_dataset(dataset: Any, size: int, label: str) -> None:
    """Refuse a dataset that lies in another file, or claims more than a file of this size holds."""
    if dataset.is_virtual or dataset.external:
        raise InputError(f"{label}: refused, its '{dataset.name}' lies in another file")
    claimed = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    if claimed > DEFLATE * size + SLACK:
        raise InputError(
            f"{label}: '{dataset.name}' claims {claimed:,} bytes, more than a file of {size:,} can"
            " hold (damaged?)"
        )


def _read_yaml(dataset: Any) -> dict[str, ColumnInfo]:
    """Return what astropy notes beside its compound datasets."""
    if dataset is None:
        return {}
    from astropy.table.meta import get_header_from_yaml

    lines = [line.decode("utf-8", "replace") for line in dataset[:].tolist()]
    return ColumnInfo.read_yaml(get_header_from_yaml(lines))


def _take_rows(columns: dict[str, Any]) -> dict[str, Any]:
    """Leave out datasets beside a table that have other numbers of rows, spectra's apart."""
    first = find_id_name(columns) or next((n for n in columns if n.lower() in RA_NAMES), None)
    n = len(columns[first or next(iter(columns))])
    return {k: v for k, v in columns.items() if len(v) == n or re.match("[br]p_", k.lower())}


def _has_id(names: Any) -> bool:
    return any(name.lower() in SPECTRA_ID_NAMES for name in names)


def _has_pickles(file: Any, h5py: Any) -> bool:
    found = []
    file.visititems(lambda name, item: found.append(name) if "PSEUDOATOM" in item.attrs else None)
    return bool(found)


def _hdf5_info(dataset: Any) -> ColumnInfo:
    words = (dataset.attrs.get(key) for key in ("unit", "description", "ucd"))
    return ColumnInfo(*(word.decode() if isinstance(word, bytes) else word for word in words))


def _read_rows(table: dict[str, Any], name: str, rows: slice) -> Any:
    return table[name][rows]
