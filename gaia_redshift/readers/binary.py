"""FITS tables and Parquet."""

from __future__ import annotations

import mmap
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import is_utf8
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.readers.arrays import Ragged
from gaia_redshift.readers.columns import (
    BLOCK_ROWS,
    RA_NAMES,
    Block,
    ColumnInfo,
    Layout,
    ReadOptions,
    cut_blocks,
    find_id_name,
    find_layout,
)
from gaia_redshift.readers.content import Content
from gaia_redshift.tables.fits import add_words

__all__ = [
    "choose_layouts",
    "find_null",
    "iter_fits_blocks",
    "iter_parquet_blocks",
    "open_fits",
    "read_parquet_infos",
    "unscale",
]

SUMMED = 2880 << 10
MOST_FIELDS = 999
"""Columns that a FITS table may have."""
MOST_VALUES = 100_000
"""Numbers in a row, on average, beyond which a Parquet file is refused; correlations have 1,485."""


def choose_layouts(
    tables: list[tuple[Any, list[str]]], options: ReadOptions, label: str
) -> list[tuple[Any, Layout]]:
    """Take the tables that hold spectra (COMBINED files have several, others one among many).

    Where any table will do it is that with source ids, else that with positions, else the first.
    """
    if not options.spectra:
        named = [one for one in tables if find_id_name(one[1])]
        placed = [one for one in tables if {n.lower() for n in one[1]} & set(RA_NAMES)]
        for table, names in (named or placed or tables)[:1]:
            return [(table, find_layout(names, options, label))]
    chosen: list[tuple[Any, Layout]] = []
    first_error: InputError | None = None
    for table, names in tables:
        try:
            find_layout(names, ReadOptions(), label)
        except InputError as error:
            first_error = first_error or error
            continue
        chosen.append((table, find_layout(names, options, label)))
    if not chosen:
        raise first_error or InputError(f"{label}: holds no table")
    return chosen


@contextmanager
def open_fits(content: Content) -> Iterator[tuple[list[tuple[Any, list[str]]], NDArray[np.uint8]]]:
    """Open a FITS file: its binary tables with the names of their columns, and its bytes."""
    from astropy.io import fits

    if content.path is not None:
        # A plain array of it: slices of a memmap are slow, and let go of Python's lock.
        buffer: NDArray[np.uint8] = np.asarray(np.memmap(content.path, dtype=np.uint8, mode="r"))
        opened: Any = content.path
    else:
        import io

        raw = content.read()
        buffer = np.frombuffer(raw, dtype=np.uint8)
        opened = io.BytesIO(raw)
    # A file that is cut short warns here and is refused below; odd units are kept as text.
    with ignore_warnings():
        hdus = fits.open(opened, memmap=content.path is not None, ignore_missing_simple=True)
    with hdus:
        with ignore_warnings():  # headers are read on the way
            tables = _list_fits_tables(hdus, buffer, content.label)
        yield tables, buffer


def iter_fits_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read the binary tables of a FITS file; arrays of fixed or variable length."""
    with open_fits(content) as (tables, buffer):
        for hdu, layout in choose_layouts(tables, options, content.label):
            infos = {c.name: _fits_info(hdu.header, i) for i, c in enumerate(hdu.columns, 1)}
            n = int(hdu.header["NAXIS2"])
            read = partial(_read_fits_column, hdu, buffer)
            about = {"label": content.label, "source": content.source, "infos": infos}
            for block in cut_blocks(n, read, layout, options, **about):
                yield block
                _forget_pages(hdu.data)
                _forget_pages(buffer)


def _forget_pages(array: Any) -> None:
    """Take what was read of a mapped file out of memory again: it would count as the process's."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def _list_fits_tables(
    hdus: Any, buffer: NDArray[np.uint8], label: str
) -> list[tuple[Any, list[str]]]:
    from astropy.io import fits

    size = len(buffer)
    tables = []
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU):
            header = hdu.header
            if not 0 <= int(header.get("TFIELDS", 0)) <= MOST_FIELDS:
                raise InputError(f"{label}: claims to have {header['TFIELDS']} columns (damaged?)")
            length = header["NAXIS1"] * header["NAXIS2"] + header.get("PCOUNT", 0)
            if hdu.fileinfo()["datLoc"] + length > size:
                raise InputError(f"{label}: the FITS file is cut short ({size} bytes)")
            _check_sum(hdu, buffer, label)
            tables.append((hdu, hdu.columns.names))
    return tables


def _check_sum(hdu: Any, buffer: NDArray[np.uint8], label: str) -> None:
    """Compare a table with the checksum that its header states, where it does."""
    stated = str(hdu.header.get("DATASUM", "")).strip()
    if not stated.isdigit() or int(stated) == 0:
        return
    place = hdu.fileinfo()
    end = place["datLoc"] + place["datSpan"]
    if _sum_words(buffer, place["datLoc"], end) == int(stated):
        return
    header = _sum_words(buffer, place["hdrLoc"], place["datLoc"], int(stated))
    if "CHECKSUM" in hdu.header and header != 0xFFFFFFFF:
        # The header was not written with these sums: astropy carries such cards along.
        warnings.warn(
            f"{label}: the checksums in a table's header are those of another file, which a program"
            " carried along: whether the file is damaged cannot be told",
            GaiaRedshiftWarning,
            stacklevel=2,
        )
    else:
        raise InputError(
            f"{label}: a table is not what its checksum (DATASUM) says: the file is damaged, or was"
            " changed by a program that leaves checksums as they are"
        )


def _sum_words(buffer: NDArray[np.uint8], start: int, end: int, total: int = 0) -> int:
    """Add the words of a part of a file, as FITS's checksums do, without keeping it in memory."""
    for first in range(start, end, SUMMED):
        piece = buffer[first : min(first + SUMMED, end)]
        total = add_words(piece[: len(piece) // 4 * 4], total)
        _forget_pages(buffer)
    return total


def _fits_info(header: Any, number: int) -> ColumnInfo:
    cards = (str(header.get(f"{key}{number}", "")) for key in ("TUNIT", "TCOMM", "TUCD"))
    return ColumnInfo(*(card.strip() or None for card in cards))


def _read_fits_column(hdu: Any, buffer: NDArray[np.uint8], name: str, rows: slice) -> Any:
    column = hdu.columns[name]
    match = re.match(r"\s*(\d*)([PQ])([A-Z])", str(column.format))
    if match is None:
        if re.fullmatch(r"\s*1?L\s*", str(column.format)):  # T, F, or 0 for none
            cells = _view_rows(hdu, buffer, rows)[:, _column_offset(hdu, name)]
            return np.ma.MaskedArray(cells == ord("T"), mask=cells == 0)
        values = hdu.data.field(name)[rows]
        null = find_null(column)
        if null is not None and values.dtype.kind in "iuf":
            return np.ma.MaskedArray(values, mask=values == null)
        if values.dtype.kind in "SU":
            raw = np.asarray(values)
            if raw.dtype.kind == "S":
                raw = np.char.decode(raw, "utf-8", "backslashreplace")
            text = np.char.strip(raw)
            return np.ma.MaskedArray(text, mask=text == "")
        return np.asarray(values)
    # Variable length: (length, offset) pairs in the rows, numbers in the heap behind them.
    code = {"D": ">f8", "E": ">f4", "J": ">i4", "I": ">i2", "K": ">i8"}.get(match[3])
    if code is None:
        return np.array([str(v) for v in hdu.data[rows].field(name)], dtype=object)
    header, data_start = hdu.header, hdu.fileinfo()["datLoc"]
    raw_rows = _view_rows(hdu, buffer, rows)
    offset = _column_offset(hdu, name)
    pointer = ">i4" if match[2] == "P" else ">i8"
    size = 2 * np.dtype(pointer).itemsize
    pairs = np.ascontiguousarray(raw_rows[:, offset : offset + size]).view(pointer).astype(np.int64)
    rows_end = int(header["NAXIS1"]) * int(header["NAXIS2"])
    heap_start = data_start + int(header.get("THEAP", rows_end))
    heap = buffer[heap_start : data_start + rows_end + int(header.get("PCOUNT", 0))]
    item = np.dtype(code).itemsize
    ends = pairs[:, 1] + pairs[:, 0] * item
    if (pairs < 0).any() or (pairs[:, 0] > len(heap)).any() or (ends > len(heap)).any():
        raise InputError(f"column '{name}' points out of its table's heap (file damaged?)")
    values, lengths = _take_arrays(heap, pairs, np.dtype(code))
    native: Any = np.float32 if match[3] == "E" else np.float64
    if column.bscale not in (None, "", 1) or column.bzero not in (None, "", 0):
        values = unscale(values, column.bscale or 1, column.bzero or 0)
    return Ragged(values.astype(native).ravel(), lengths, np.zeros(len(lengths), dtype=bool))


def _take_arrays(
    heap: NDArray[np.uint8], pairs: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the numbers of all arrays, as rows or one after the other, and their lengths.

    ``pairs`` (n, 2): an array's length and where it begins.
    """
    lengths, places = pairs[:, 0], pairs[:, 1]
    steps = np.diff(places)
    if steps.size and steps[0] > 0 and (steps == steps[0]).all() and (lengths == lengths[0]).all():
        shape, strides = (len(places), int(lengths[0])), (int(steps[0]), dtype.itemsize)
        return np.ndarray(shape, dtype, heap, int(places[0]), strides), lengths
    parts = [
        heap[place : place + length * dtype.itemsize].view(dtype)
        for length, place in zip(lengths, places, strict=True)
    ]
    return np.concatenate(parts) if parts else np.empty(0), lengths


def _view_rows(hdu: Any, buffer: NDArray[np.uint8], rows: slice) -> NDArray[np.uint8]:
    """Return rows of a table as bytes, shape (n, width)."""
    begin, width = hdu.fileinfo()["datLoc"], int(hdu.header["NAXIS1"])
    return buffer[begin + rows.start * width : begin + rows.stop * width].reshape(-1, width)


def unscale(raw: NDArray[Any], scale: Any, zero: Any) -> NDArray[Any]:
    """Return the numbers that scaled ones of a FITS column stand for, integers as integers."""
    native = raw.astype(raw.dtype.newbyteorder("="))
    if scale != 1 or native.dtype.kind not in "iu" or float(zero) != int(zero):
        return np.asarray(native.astype(np.float64) * float(scale) + float(zero))
    if native.dtype.itemsize < 8:
        return np.asarray(native.astype(np.int64) + int(zero))
    if int(zero) == 2**63:  # how FITS stores uint64
        return np.asarray(native.view(np.uint64) ^ np.uint64(2**63))
    return np.asarray(native.astype(object) + int(zero)) if zero else native


def find_null(column: Any) -> Any:
    """Return the value of a FITS column that stands for "none", as astropy gives it; or None."""
    null = column.null
    if null in (None, ""):
        return None
    scale, zero = column.bscale or 1, column.bzero or 0
    if scale == 1 and float(zero) == int(zero):
        return int(null) + int(zero)
    return null * scale + zero


def _column_offset(hdu: Any, name: str) -> int:
    dtype = hdu.columns.dtype
    return int(dtype.fields[name][1])


def iter_parquet_blocks(content: Content, options: ReadOptions) -> Iterator[Block]:
    """Read a Parquet file in batches of rows, only the columns that are needed."""
    import pyarrow as pa
    from pyarrow import parquet

    with ExitStack() as stack:
        source: Any = content.path
        if source is None:
            source = pa.BufferReader(content.read())
        elif not is_utf8(str(source)):  # which pyarrow cannot open by its name
            source = stack.enter_context(content.open())
        # Pages are read as they are needed: a row group may be larger than memory.
        file = stack.enter_context(
            parquet.ParquetFile(
                source, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
        )
        schema = file.schema_arrow
        nested = _list_nested(schema)
        layout = find_layout([*schema.names, *nested], options, content.label)
        wanted = [".".join(nested.get(name, (name,))) for name in layout.names]
        if file.metadata.num_rows == 0:
            raise InputError(f"{content.label}: holds no sources (a table without rows)")
        _check_values(file.metadata, content.label)
        infos = read_parquet_infos(schema)
        first_row = 1
        groups = list(range(file.metadata.num_row_groups))
        sizes = [file.metadata.row_group(group).num_rows for group in groups]
        while groups and options.skip.take(n := sizes[groups[0]]):
            groups.pop(0)
            first_row += n
        for batch in file.iter_batches(BLOCK_ROWS, row_groups=groups, columns=wanted):
            columns = {name: _take(batch, *nested.get(name, (name,))) for name in layout.names}
            yield Block(columns, layout, content.label, content.source, first_row, infos)
            first_row += batch.num_rows


def _list_nested(schema: Any) -> dict[str, tuple[str, str]]:
    """Return columns inside of columns, as some HATS catalogues have them, by a name of their own.

    That is the inner one where it says the band (``bp_coefficients``), else both (``bp``,
    ``coefficients``).
    """
    import pyarrow as pa

    found: dict[str, tuple[str, str]] = {}
    for field in schema:
        if pa.types.is_struct(field.type):
            for inner in field.type:
                whole = re.match(r"[br]p_|source_?id$", inner.name, re.IGNORECASE)
                name = inner.name if whole else f"{field.name}_{inner.name}"
                if name not in schema.names:
                    found.setdefault(name, (field.name, inner.name))
    return found


def _take(batch: Any, name: str, inner: str | None = None) -> Any:
    from pyarrow import compute

    column = batch.column(name)
    return column if inner is None else compute.struct_field(column, inner)


def _check_values(metadata: Any, label: str) -> None:
    """Refuse rows that unpack to far more than any spectrum holds."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.num_values > MOST_VALUES * max(group.num_rows, 1):
                raise InputError(
                    f"{label}: column '{column.path_in_schema}' claims {column.num_values:,} values"
                    f" in {group.num_rows:,} rows (damaged?)"
                )


def read_parquet_infos(schema: Any) -> dict[str, ColumnInfo]:
    """Return units and descriptions that fields, or astropy's YAML, state."""
    infos: dict[str, ColumnInfo] = {}
    for field in schema:
        meta = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        if meta.keys() & {"unit", "description", "ucd"}:
            infos[field.name] = ColumnInfo(
                meta.get("unit"), meta.get("description"), meta.get("ucd")
            )
    yaml = (schema.metadata or {}).get(b"table_meta_yaml")
    if yaml is not None:  # written by astropy
        from astropy.table.meta import get_header_from_yaml

        infos |= ColumnInfo.read_yaml(get_header_from_yaml(yaml.decode().split("\n")))
    return infos
