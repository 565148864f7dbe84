"""What the parts of a run become: one file, of columns that hold those of all parts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift._quiet import ignore_warnings
from gaia_redshift.clean import find_clean, format_clean
from gaia_redshift.errors import InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.tables import open_sink, table_format, write_blocks
from gaia_redshift.tables.columns import (
    Block,
    Column,
    describe_column,
    fit_values,
    join_columns,
    make_column,
    settle_types,
    take_table,
)
from gaia_redshift.tables.types import Note

if TYPE_CHECKING:
    from astropy.table import Table

    from gaia_redshift.predict.files import FileSummary
    from gaia_redshift.predict.journal import Journal
    from gaia_redshift.tables import PredictedRows

__all__ = ["Storable", "assemble_output", "find_repeated"]

IDS_AT_ONCE = 1 << 22
"""Source ids compared in memory at a time: 34 MB."""
Columns = dict[str, Note]
"""Name to note: what `gaia_redshift.predict.journal` writes down of each part."""


class Storable:
    """Finds out as soon as columns appear whether the output's format can hold them."""

    def __init__(self, target: Path) -> None:
        self.target, self.kind = target, table_format(target)
        self._seen: set[Any] = set()

    def check(self, rows: PredictedRows) -> None:
        """Write two rows of columns that are new to nowhere."""
        columns = rows.columns
        names = (
            () if columns is None else tuple((n, columns[n].dtype.str) for n in columns.colnames)
        )
        if names in self._seen:
            return
        self._seen.add(names)
        try:
            with tempfile.TemporaryDirectory() as folder, ignore_warnings():
                table = settle_types(rows.to_table()[:2])
                described, block = take_table(table)
                sink = open_sink(self.kind, Path(folder) / "example", described, table.meta)
                with closing(sink):
                    sink.write(block)
        except Exception as error:
            raise InputError(
                f"cannot write {self.target} as {self.kind}: {one_line(error)}"
            ) from error


def assemble_output(
    journal: Journal,
    target: Path,
    summary: FileSummary,
    collect: Callable[[Table], None] | None,
    clean: str | None,
) -> None:
    """Make one file of the parts, and flag sources that occur more than once."""
    parts = [part for part in journal.parts if journal.count_rows(part)]
    n_rows = sum(map(journal.count_rows, parts))
    repeated = find_repeated(journal.read_ids, n_rows)
    example = journal.read_example()
    if clean is not None:
        n_rows = sum(int(find_clean(table, clean).sum()) for table in journal.read_parts())
        example.meta["clean_sample"] = format_clean(clean, example.colnames)
    summary.n_written = n_rows

    columns = join_columns([part["columns"] for part in parts])

    def iter_blocks() -> Iterator[Block]:
        for part in journal.read_parts():
            table = _fit_columns(part, columns)
            table["flags_cnn"] |= _flag_repeated(np.asarray(table["source_id"]), repeated)
            summary.count(table)
            if clean is not None:
                table = table[find_clean(table, clean)]
            if collect is not None:
                collect(table)
            yield {name: np.ma.asarray(table[name]) for name in columns}

    described = [describe_column(example[name], note) for name, note in columns.items()]
    write_blocks(iter_blocks(), target, described, example.meta)


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


def _fit_columns(table: Table, columns: Columns) -> Table:
    """Give a part the columns that the file has."""
    from astropy.table import Table

    fitted = Table(meta=table.meta)
    for name, note in columns.items():
        there = name in table.colnames
        values = fit_values(table[name] if there else None, note, len(table))
        if note["masked"]:
            values = np.ma.asarray(values)
        about = describe_column(table[name]) if there else Column(name, values.dtype)
        fitted[name] = make_column(about, values)
    return fitted


def _flag_repeated(source_id: NDArray[np.int64], repeated: NDArray[np.int64]) -> NDArray[np.int32]:
    if not len(repeated):
        return np.zeros(len(source_id), dtype=np.int32)
    where = np.minimum(np.searchsorted(repeated, source_id), len(repeated) - 1)
    found = repeated[where] == source_id
    return np.where(found, np.int32(QualityFlag.DUPLICATE_SOURCE_ID), np.int32(0))
