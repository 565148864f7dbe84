"""The one file that the parts of a run become, written part by part.

Parquet, FITS, ECSV and csv are written as the parts come, so that memory does not grow; VOTable and
HDF5 are put together in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import LEVEL, gzip, one_line, written_whole
from gaia_redshift.errors import InputError
from gaia_redshift.tables import write_table
from gaia_redshift.tables.columns import add_column
from gaia_redshift.tables.files import table_format
from gaia_redshift.tables.formats import (
    format_text,
    make_arrow_table,
    make_fits_hdu,
    store_columns,
    take_plain_columns,
)
from gaia_redshift.tables.parquet import choose_encoding
from gaia_redshift.tables.stacks import stack_tables
from gaia_redshift.tables.types import Note, cast_column, join_notes

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Columns", "find_repeated", "fit_columns", "join_columns", "write_tables"]

IDS_AT_ONCE = 1 << 22
"""Source ids compared in memory at a time: 34 MB."""
FITS_BLOCK = 2880
Columns = dict[str, Note]
"""Name to note: what `gaia_redshift.predict.journal` writes down of each part."""


def find_repeated(read_ids: Callable[[], Iterable[NDArray[np.int64]]], n: int) -> NDArray[np.int64]:
    """Return the source ids that occur more than once, each once, in order.

    ``read_ids`` gives all n ids, array by array; called again for each pass. Beyond `IDS_AT_ONCE`
    several passes are made, so that memory is bounded.
    """
    # Odd: nearly all Gaia ids are multiples of 128, and divide into even numbers badly.
    n_passes = -(-n // IDS_AT_ONCE) | 1
    found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for number in range(n_passes):
        ids = np.empty(min(n, 2 * IDS_AT_ONCE), dtype=np.int64)
        end = 0
        for part in read_ids():
            chosen = part if n_passes == 1 else part[part % n_passes == number]
            if end + len(chosen) > len(ids):  # twice a pass's share: not ids as Gaia's are
                ids = np.resize(ids, 2 * (end + len(chosen)))
            ids[end : end + len(chosen)] = chosen
            end += len(chosen)
        ids = ids[:end]
        ids.sort()
        found.append(np.unique(ids[1:][ids[1:] == ids[:-1]]))
    return np.sort(np.concatenate(found))


def join_columns(parts: Iterable[Columns]) -> Columns:
    """Return columns that hold those of all parts; one that a part lacks is masked there."""
    parts = list(parts)
    joined: Columns = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        holders = [part[name] for part in parts if name in part]
        joined[name] = join_notes(holders, absent=len(holders) < len(parts))
    return joined


def fit_columns(table: Table, columns: Columns) -> Table:
    """Give a part the columns that the file has."""
    from astropy.table import MaskedColumn, Table

    fitted = Table(meta=table.meta)
    n = len(table)
    for name, about in columns.items():
        dtype = np.dtype(about["dtype"])
        if name not in table.colnames:
            values = np.zeros((n, *about["shape"]), dtype=dtype)
            masked = np.ma.MaskedArray(values, mask=np.ones(values.shape, dtype=bool))
            fitted[name] = MaskedColumn(masked, fill_value=values.dtype.type())
            continue
        found = cast_column(table[name], dtype)
        if about["masked"]:
            found = np.ma.MaskedArray(found, fill_value=dtype.type())
        add_column(fitted, name, found, table[name])
    return fitted


def _make_pattern(columns: Columns, example: Table) -> Table:
    """Return two rows from which a format makes its header: all types, widths and masks."""
    from astropy.table import MaskedColumn, Table

    pattern = Table(meta=example.meta)
    for name, about in columns.items():
        dtype = np.dtype(about["dtype"])
        if dtype.kind == "U":
            dtype = np.dtype(f"<U{max(about['widest'], 1)}")
        values = np.zeros((2, *about["shape"]), dtype=dtype)
        if dtype.kind == "U":
            values[:] = "x" * max(about["widest"], 1)
        mask = np.zeros(values.shape, dtype=bool)
        mask[1] = True
        masked = np.ma.MaskedArray(values, mask=mask, fill_value=dtype.type())
        pattern[name] = MaskedColumn(masked) if about["masked"] else values
        _copy_description(example, pattern, name)
    return pattern


def _copy_description(source: Table, target: Table, name: str) -> None:
    if name not in source.colnames:
        return
    target[name].unit = source[name].unit
    target[name].info.description = source[name].info.description
    target[name].info.meta = dict(source[name].info.meta or {})


def write_tables(
    tables: Iterable[Table],
    path: Path,
    *,
    columns: Columns,
    example: Table,
    n_rows: int,
) -> None:
    """Write tables one after the other as one file, which appears when it is complete.

    ``example`` has the units, descriptions and UCDs of the columns, and the whole's ``meta``;
    ``n_rows`` are those of all tables.
    """
    kind = table_format(path)
    if kind in ("votable", "hdf5"):
        whole = stack_tables(list(tables))
        whole.meta.clear()
        whole.meta.update(example.meta)
        for name in whole.colnames:
            _copy_description(example, whole, name)
        write_table(whole, path, overwrite=True)
        return
    pattern = _make_pattern(columns, example)
    try:
        with (
            written_whole(path) as temporary,
            _open(temporary, packed=path.name.lower().endswith(".gz")) as file,
        ):
            if kind == "parquet":
                _write_parquet(iter(tables), file, pattern)
            elif kind == "fits":
                _write_fits(iter(tables), file, pattern, columns, n_rows)
            else:
                _write_text(iter(tables), file, pattern, kind)
    except OSError as error:
        raise InputError(f"cannot write {path}: {one_line(error)}") from error
    except ValueError as error:
        raise InputError(f"cannot write {path} as {kind}: {one_line(error)}") from error


def _open(path: Path, packed: bool) -> IO[bytes]:
    return gzip.open(path, "wb", LEVEL) if packed else path.open("wb")  # type: ignore[return-value]


def _write_parquet(tables: Iterator[Table], file: IO[bytes], pattern: Table) -> None:
    from pyarrow import parquet

    schema = make_arrow_table(take_plain_columns(pattern)).schema
    with parquet.ParquetWriter(file, schema, **choose_encoding(schema)) as writer:
        for table in tables:
            rows = make_arrow_table(take_plain_columns(table), for_astropy=False)
            writer.write_table(rows.replace_schema_metadata(None).cast(schema))


def _write_text(tables: Iterator[Table], file: IO[bytes], pattern: Table, kind: str) -> None:
    """Write ECSV or csv; the header is that of the pattern."""
    file.write(b"".join(_cut_header(_to_text(pattern, kind))))
    for table in tables:
        text = _to_text(table, kind)
        header = _cut_header(text)
        file.write(text[sum(map(len, header)) :])


def _to_text(table: Table, kind: str) -> bytes:
    return format_text(take_plain_columns(table), kind)


def _cut_header(text: bytes) -> list[bytes]:
    """Return the comments and the line of names."""
    header: list[bytes] = []
    start = 0
    while True:
        end = text.index(b"\n", start) + 1
        header.append(text[start:end])
        if not text.startswith(b"#", start):
            return header
        start = end


def _write_fits(
    tables: Iterator[Table], file: IO[bytes], pattern: Table, columns: Columns, n_rows: int
) -> None:
    from astropy.io import fits

    hdu = make_fits_hdu(take_plain_columns(pattern), columns)
    dtype = hdu.columns.dtype.newbyteorder(">")
    hdu.header["NAXIS2"] = n_rows
    file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
    file.write(hdu.header.tostring().encode("ascii"))
    for table in tables:
        rows = np.zeros(len(table), dtype=dtype)
        stored = store_columns(table, "fits", columns)
        for column, name in zip(hdu.columns, stored.colnames, strict=True):
            rows[column.name] = _to_fits_values(stored[name], column)
        file.write(rows.tobytes())
    file.write(b"\0" * (-(n_rows * dtype.itemsize) % FITS_BLOCK))


def _to_fits_values(values: Any, column: Any) -> NDArray[Any]:
    """Return stored values as they lie in the file."""
    data = np.ma.getdata(np.ma.asarray(values))
    if data.dtype.kind == "U":
        return np.char.encode(data, "utf-8", "surrogatepass")
    if str(column.format).endswith("L"):
        return np.where(data, ord("T"), ord("F")).astype("i1")
    if data.dtype.kind == "u" and data.dtype.itemsize > 1:  # stored with TZERO
        half = np.uint64(1 << (8 * data.dtype.itemsize - 1))
        return (data.astype(np.uint64) - half).astype(np.int64)
    return np.asarray(data)
