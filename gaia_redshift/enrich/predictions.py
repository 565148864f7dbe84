"""What is added to a block of a catalogue: redshifts, fetched or from local spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._threads import read_ahead
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import N_FLUX
from gaia_redshift.predict import predict_redshift, predict_table
from gaia_redshift.predict.blocks import Findings, predict_block
from gaia_redshift.predict.files import BLOCK_SIZE
from gaia_redshift.predict.settings import make_settings
from gaia_redshift.predict.table import read_blocks
from gaia_redshift.readers.values import to_degrees
from gaia_redshift.spectra import XPSpectra
from gaia_redshift.tables.columns import Column, take_table

__all__ = [
    "BLOCK_ROWS",
    "Addition",
    "Cells",
    "Columns",
    "LocalPredictions",
    "clear_duplicates",
    "describe_output",
    "predict_from_archive",
]

Cells = dict[str, Any]
"""The columns that are needed of a block of rows: arrays, masked arrays, or lists of text."""
Columns = dict[str, NDArray[Any]]
"""The new columns of a block; NaN, or 0 in ``source_id``, where there is nothing."""
BLOCK_ROWS = 8192
_EMPTY = ("", "null", "nan", "--", "none")
_DUPLICATE = np.int32(~int(QualityFlag.DUPLICATE_SOURCE_ID))


@dataclass(frozen=True)
class Addition:
    """Columns that ``compute`` makes of the ``wanted`` ones of a block, and what to note."""

    wanted: Sequence[str]
    new: Sequence[Column]
    compute: Callable[[Cells], Columns]
    meta: dict[str, Any]


def describe_output(
    model: Any, options: Mapping[str, Any] | None = None
) -> tuple[list[Column], dict[str, Any]]:
    """Return the columns that a model's predictions have by some options, and its provenance."""
    table = predict_redshift(np.ones((1, N_FLUX)), model=model, **(options or {}))
    columns = [c for c in take_table(table)[0] if c.name != "source_id" and not c.shape]
    meta = {k: v for k, v in table.meta.items() if k not in ("data_release", "inputs")}
    return columns, meta


def _to_ids(cells: Any, label: str) -> NDArray[np.int64]:
    """Return source ids, 0 where there is none."""
    from gaia_redshift.readers.values import to_source_ids

    if isinstance(cells, list):
        texts = ["" if c is None else str(c).strip() for c in cells]
        return to_source_ids(["0" if t.lower() in _EMPTY else t for t in texts], label)
    array = np.ma.asarray(cells)
    if array.dtype.kind == "f":
        known = ~np.ma.getmaskarray(array) & np.isfinite(np.ma.getdata(array))
        return to_source_ids(np.where(known, np.ma.getdata(array), 0.0), label)
    return to_source_ids(np.ma.filled(array, 0), label)


def predict_from_archive(
    cells: Cells,
    *,
    model: Any,
    new: Sequence[Column],
    names: Sequence[str],
    units: Sequence[str],
    label: str,
    options: Mapping[str, Any],
) -> Columns:
    """Return the new columns of a block from spectra that the Gaia archive has.

    ``names`` are the catalogue's column of ids, or those of positions, which have ``units``.
    """
    if len(names) == 2:
        from astropy.table import Table

        ra, dec = (
            to_degrees(cells[name], unit, name, label)
            for name, unit in zip(names, units, strict=True)
        )
        positions = Table({"ra": ra, "dec": dec})
        table = predict_table(positions, model=model, keep=["separation_gaia"], **options)
        found = dict(table.items())
        return {column.name: _take(found, column) for column in new}
    ids = _to_ids(cells[names[0]], label)
    values = _make_empty(new, len(ids), QualityFlag.UNKNOWN_SOURCE_ID)
    asked, which = np.unique(ids[ids > 0], return_inverse=True)
    if len(asked):
        found = dict(predict_table(asked, model=model, **options).items())
        for column in new:
            values[column.name][ids > 0] = _take(found, column)[which.reshape(-1)]
    return values


class LocalPredictions:
    """Predicts local spectra once and keeps the results on disk, to be looked up by id.

    In memory are 8 bytes for each row of the catalogue while spectra are read, then 16 bytes for
    each spectrum that it asks for; results lie in ``file``.
    """

    def __init__(
        self, model: Any, new: Sequence[Column], name: str, *, label: str, file: IO[bytes]
    ) -> None:
        self.model, self.new, self.name, self.label = model, list(new), name, label
        self.file = file

    def read(
        self, spectra: Any, wanted: Iterable[Cells], options: Mapping[str, Any], *, progress: bool
    ) -> None:
        """Predict those of the spectra that the catalogue asks for."""
        settings = make_settings(self.model, block_size=BLOCK_SIZE, **options)
        findings = Findings()
        blocks = [np.unique(_to_ids(cells[self.name], self.label)) for cells in wanted]
        asked = np.unique(np.concatenate([np.zeros(1, dtype=np.int64), *blocks]))

        def choose() -> Iterator[XPSpectra]:
            for block in read_blocks(spectra, settings, progress=progress):
                rows = np.flatnonzero(_find(block.source_id, asked)[1])
                if len(rows):
                    yield block[rows]

        dtype = np.dtype([("source_id", np.int64), *((c.name, c.dtype) for c in self.new)])
        np.zeros(1, dtype).tofile(self.file)  # of no id: nothing could not be mapped
        for block in read_ahead(choose(), 1):
            found = predict_block(block, settings, findings).to_columns()
            records = np.zeros(len(block), dtype)
            records["source_id"] = block.source_id
            for column in self.new:
                records[column.name] = _take(found, column)
            records.tofile(self.file)
        findings.warn()
        self.file.flush()
        self._results = np.memmap(self.file, dtype=dtype, mode="r")
        ids = np.asarray(self._results["source_id"])
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def compute(self, cells: Cells) -> Columns:
        """Return the new columns of a block."""
        ids = _to_ids(cells[self.name], self.label)
        absent = QualityFlag.MISSING_BP | QualityFlag.MISSING_RP
        values = _make_empty(self.new, len(ids), absent)
        place, have = _find(ids, self._sorted)
        found = self._results[self._order[place[have]]]
        for column in self.new:
            values[column.name][have] = found[column.name]
        return values


def _find(ids: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return where ids (n,) stand in sorted ones, and whether they do; 0 is no id."""
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return place, (known[place] == ids) & (ids > 0)


def _make_empty(new: Sequence[Column], n: int, flag: int) -> Columns:
    """Return columns of rows that have no redshift, with this flag."""
    values = {c.name: np.full(n, _fill(c), dtype=c.dtype) for c in new}
    for column in new:
        if column.name.startswith("flags_"):
            values[column.name][:] = int(flag)
    return values


def _take(found: Mapping[str, Any], column: Column) -> NDArray[Any]:
    """Return a column; empty where no row that was found has a redshift, and so no interval."""
    if column.name not in found:
        return np.full(len(found["source_id"]), _fill(column), dtype=column.dtype)
    return np.asarray(np.ma.filled(np.ma.asarray(found[column.name]), _fill(column)))


def _fill(column: Column) -> Any:
    return np.nan if column.dtype.kind == "f" else column.null or 0


def clear_duplicates(values: Columns) -> Columns:
    """Clear the flag of repeated ids: a block does not know those of others."""
    return {
        name: array & _DUPLICATE if name.startswith("flags_") else array
        for name, array in values.items()
    }
