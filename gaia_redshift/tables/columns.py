"""Columns apart from their table: what is known of one, values as every format takes them, stacks.

What formats cannot say by themselves goes along as JSON (FITS card ``GRZMETA``, VOTable INFO and
Parquet key ``gaia_redshift_meta``), beside what other programs read (FITS cards, TUCD, TCOMM;
VOTable INFO, ucd, DESCRIPTION; Parquet nulls and astropy's own YAML).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import escape_controls
from gaia_redshift.errors import InputError
from gaia_redshift.tables.types import (
    AS_WRITTEN,
    Note,
    cast_column,
    join_notes,
    note_column,
    simplify_column,
)

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "GRID_KEY",
    "META_KEY",
    "Arrays",
    "Block",
    "Column",
    "Sink",
    "add_to_description",
    "describe_column",
    "describe_table",
    "escape_texts",
    "fit_values",
    "join_columns",
    "make_column",
    "make_table",
    "name_unit",
    "refuse_large",
    "replace_column",
    "settle_types",
    "split_places",
    "stack_tables",
    "take_table",
]

GRID_KEY = "redshift_grid"
"""In a column's meta: the edges of the bins that its densities are for."""
META_KEY = "gaia_redshift_meta"


@dataclass(frozen=True)
class Column:
    """What is known of a column.

    ``dtype`` is that of one value, without a width where it is text; ``shape`` that of each row's
    array, and with ``ragged`` each row has a 1-D array of its own length. ``note`` says what all of
    it holds (`gaia_redshift.tables.types`); it is empty where that shows only in the end. ``null``
    is the value of integers that stands for nothing; ``meta`` what else a table says.
    """

    name: str
    dtype: np.dtype[Any]
    unit: str | None = None
    description: str | None = None
    ucd: str | None = None
    null: int | None = None
    shape: tuple[int, ...] = ()
    ragged: bool = False
    note: Note = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> dict[str, str]:
        """Unit, description and UCD, as far as they are known."""
        known = {"unit": self.unit, "description": self.description, "ucd": self.ucd}
        return {key: value for key, value in known.items() if value is not None}

    def is_null(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which values stand for nothing."""
        if self.dtype.kind == "f":
            return np.isnan(values)
        return values == self.null if self.null is not None else np.zeros(len(values), dtype=bool)


@dataclass(frozen=True)
class Arrays:
    """One array a row: ``padded[i, :lengths[i]]``; length 0 where there is none."""

    padded: NDArray[np.floating]
    lengths: NDArray[np.int64]

    @property
    def flat(self) -> NDArray[np.floating]:
        """The rows' numbers one after the other."""
        width = self.padded.shape[1]
        return self.padded[np.arange(width) < self.lengths[:, None]]


Block = Mapping[str, Any]
"""Some rows: by column `Arrays`, or an array of booleans, numbers or text, masked where blank."""


class Sink(Protocol):
    """A file being written: each format has one, made with ``(path, columns, meta)``.

    ``meta`` is the table's; None where the file holds nothing but columns, as spectra do.
    """

    def write(self, block: Block) -> None:
        """Append rows."""

    def close(self) -> None:
        """Complete the file."""

    def abort(self) -> None:
        """Let go of it as it is."""


def take_table(table: Table) -> tuple[list[Column], dict[str, Any]]:
    """Return a table's columns and, without needless masks, their values."""
    table = split_places(table)
    columns, block = [], {}
    for name in table.colnames:
        values = simplify_column(table[name], name)
        if isinstance(values, np.ma.MaskedArray) and not values.mask.any():
            values = values.data
        written = (table[name].info.meta or {}).get(AS_WRITTEN)
        block[name] = values
        note = note_column(table[name] if written else values)
        columns.append(describe_column(table[name], note))
    return columns, block


def describe_column(column: Any, note: Note | None = None) -> Column:
    """Describe a column of an astropy table, all of which is what ``note`` says."""
    unit = getattr(column, "unit", None)
    meta = dict(column.info.meta or {})
    return Column(
        column.info.name,
        np.dtype(note["dtype"] if note else "O"),
        None if unit is None else str(unit),
        column.info.description,
        meta.pop("ucd", None),
        shape=tuple(note["shape"] if note else ()),
        note=note or {},
        meta=meta,
    )


def describe_table(columns: Sequence[Column], meta: Mapping[str, Any]) -> str:
    """Return the table's meta and its columns' units, descriptions and UCDs as JSON (ASCII)."""
    noted: dict[str, dict[str, Any]] = {}
    for column in columns:
        about: dict[str, Any] = dict(column.words)
        if GRID_KEY in column.meta:
            about[GRID_KEY] = column.meta[GRID_KEY]
        if column.dtype.kind in "iuf":
            about["dtype"] = column.dtype.str[1:]  # not every format has it
        elif column.note["masked"]:
            about["masked"] = column.dtype.kind  # not every format can say so
        noted[column.name] = about
    return json.dumps({"meta": dict(meta), "columns": noted}, default=_to_plain)


def add_to_description(text: str, new: Sequence[Column], meta: dict[str, Any]) -> str:
    """Add columns and metadata to what `describe_table` gave."""
    noted = json.loads(text)
    noted["meta"] = {**noted.get("meta", {}), **meta}
    for column in new:
        noted["columns"][column.name] = {k: v for k, v in column.words.items() if v}
    return json.dumps(noted)


def _to_plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def make_table(
    columns: Sequence[Column], meta: Mapping[str, Any], block: Block | None = None
) -> Table:
    """Make an astropy table of values, or without them one for its header alone."""
    from astropy.table import Table

    made = Table(meta=meta)
    for column in columns:
        values = None if block is None else block[column.name]
        if values is None and column.ragged:  # astropy sees from two rows that they differ
            values = np.empty(2, dtype=object)
            values[:] = [np.zeros(0, column.dtype), np.zeros(1, column.dtype)]
        elif values is None:
            values = np.zeros((2, *column.shape), dtype=column.dtype)
        made[column.name] = make_column(column, values)
    return made


def make_column(column: Column, values: Any) -> Any:
    """Make an astropy column of values, with its unit, description and meta."""
    from astropy.table import Column as Plain
    from astropy.table import MaskedColumn

    ucd = {} if column.ucd is None else {"ucd": column.ucd}
    about: dict[str, Any] = {"name": column.name, "meta": {**ucd, **column.meta}}
    about |= {"unit": column.unit, "description": column.description}
    if not isinstance(values, np.ma.MaskedArray):
        return Plain(values, **about)
    kind, fill = values.dtype.kind, None  # astropy's own choice overflows small types
    if kind in "iuf":
        fill = np.nan if kind == "f" else np.iinfo(values.dtype).max
    return MaskedColumn(values, fill_value=fill, **about)


def replace_column(table: Table, name: str, values: Any) -> None:
    """Put values in the place of a column, which keeps its unit and description."""
    about = describe_column(table[name])
    meta = {key: value for key, value in about.meta.items() if key != AS_WRITTEN}
    table.replace_column(name, make_column(replace(about, meta=meta), values))


def split_places(table: Any) -> Any:
    """Return a table with two columns, as other programs have them, for each of `SkyCoord`."""
    from astropy.table import Table
    from astropy.units import deg

    split = Table(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if hasattr(column, "icrs"):
            for part in ("ra", "dec"):
                split[f"{name}_{part}"] = getattr(column.icrs, part).to(deg)
                split[f"{name}_{part}"].info.description = column.info.description
        else:
            split[name] = column
    return split


def escape_texts(values: NDArray[Any]) -> NDArray[Any]:
    """Return text without control characters, which XML cannot hold and terminals obey."""
    texts = values.ravel().tolist()
    if all(text.isprintable() for text in texts):
        return values
    return np.array([escape_controls(text) for text in texts]).reshape(values.shape)


def name_unit(unit: str | None, style: str, unknown: str | None) -> str | None:
    """Return a unit as a format spells it, or ``unknown`` where that does not know it."""
    from astropy.units import Unit

    try:
        return str(Unit(unit).to_string(style)) if unit else unit
    except ValueError:
        return unknown


def refuse_large(column: Column, values: Any) -> None:
    """Refuse integers of which it shows too late that the format has no type for them."""
    if column.dtype == np.uint64 and not column.note and (values >= 2**63).any():
        raise InputError(
            f"column '{column.name}' holds integers beyond 2^63 - 1, which this format has not:"
            " write Parquet, HDF5 or ECSV, or leave the column out"
        )


def stack_tables(tables: Sequence[Table]) -> Table:
    """Stack tables whose columns may differ: a column that a part lacks is masked there.

    Numbers become the type that holds them all, or text (see `gaia_redshift.tables.types`).

    Raises
    ------
    InputError
        If a column holds arrays of different shapes.
    """
    if len(tables) == 1:
        return tables[0].copy()
    taken = [take_table(table) for table in tables]
    notes = join_columns([{c.name: c.note for c in columns} for columns, _ in taken])
    described, values = [], {}
    for name, joined in notes.items():
        holders = [column for columns, _ in taken for column in columns if column.name == name]
        shapes = {column.shape for column in holders}
        if len(shapes) > 1:
            raise InputError(f"column '{name}' holds arrays of different shapes: {sorted(shapes)}")
        like = next((c for c in holders if c.unit or c.description), holders[0])
        note = joined
        if all("proof" in column.note for column in holders):  # stays as it is written
            widest = max(column.dtype.itemsize for column in holders)
            note = {**joined, "dtype": f"<U{max(widest // 4, 1)}"}
        else:
            like = replace(like, meta={k: v for k, v in like.meta.items() if k != AS_WRITTEN})
        pieces = [
            fit_values(block.get(name), note, len(table))
            for table, (_, block) in zip(tables, taken, strict=True)
        ]
        whole = np.ma.concatenate(pieces)
        values[name] = whole if np.ma.getmaskarray(whole).any() else whole.data
        described.append(like)
    return make_table(described, dict(tables[0].meta), values)


def join_columns(parts: Sequence[Mapping[str, Note]]) -> dict[str, Note]:
    """Return columns that hold those of all parts; one that a part lacks is masked there."""
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        holders = [part[name] for part in parts if name in part]
        joined[name] = join_notes(holders, absent=len(holders) < len(parts))
    return joined


def fit_values(values: Any, note: Note, n: int) -> Any:
    """Return a part's n values as the type of the whole; masked where the part has none."""
    dtype = np.dtype(note["dtype"])
    if values is None:
        return np.ma.MaskedArray(np.zeros((n, *note["shape"]), dtype=dtype), mask=True)
    return cast_column(values, dtype)


def settle_types(table: Table, notes: Mapping[str, Note] | None = None) -> Table:
    """Give columns of csv files the types that they prove to have; the table itself is changed.

    ``notes`` tell, by name in lower case, what the whole of each column holds, where this is a
    part of it.
    """
    for name in table.colnames:
        if (table[name].info.meta or {}).get(AS_WRITTEN):
            note = (notes or {}).get(name.lower()) or join_notes([note_column(table[name])])
            replace_column(table, name, cast_column(table[name], np.dtype(note["dtype"])))
    return table
