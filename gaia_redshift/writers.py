"""Write BP/RP spectra in the archive's RAW form: `write_spectra`, or `SpectraWriter` in blocks."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import expand_path
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import BandSpectra, XPSpectra
from gaia_redshift.tables import table_format, written_sink
from gaia_redshift.tables.columns import Arrays, Column, Sink
from gaia_redshift.tables.types import cast_column, simplify_column

__all__ = ["SpectraWriter", "write_spectra"]

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1000
"""Blocks are cut to this many rows inside, which bounds the memory for their text."""
_BAND = {
    "basis_function_id": "Identifier of the set of basis functions of the {B} spectrum",
    "n_parameters": "Number of coefficients of the {B} spectrum",
    "coefficients": "Basis function coefficients of the {B} spectrum",
    "coefficient_errors": "Standard errors of the {B} coefficients",
    "coefficient_correlations": (
        "Correlations of the {B} coefficients, column-ordered upper triangle"
    ),
}
_ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations")
_OWN = {"source_id", *(f"{band}_{quantity}" for band in ("bp", "rp") for quantity in _BAND)}


class SpectraWriter:
    """Write spectra block by block; memory does not grow with their number.

    The file appears under its name only when it is complete: until then it is a hidden file beside
    it, which is removed if anything goes wrong.

    Parameters
    ----------
    path : str or PathLike
        Its extension says the format: .csv, .ecsv, .fits, .fit, .xml, .vot, .votable (BINARY2),
        each also with .gz, .parquet, .pq (zstd), .h5 or .hdf5.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If the extension is unknown, the folder does not exist or the file does.

    Notes
    -----
    The first block settles which columns there are. The ``flags`` of `XPSpectra` are not written:
    reading the file finds them again.

    Examples
    --------
    >>> with SpectraWriter("spectra.parquet") as writer:  # doctest: +SKIP
    ...     for block in iter_spectra("big.csv.gz"):
    ...         writer.write(block)
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        self.path = expand_path(path)
        self.overwrite = overwrite
        self.n_written = 0
        self._check_target()
        _check_format(self.path)
        self._columns: list[Column] = []
        self._sink: Sink | None = None
        self._stack = ExitStack()

    def _check_target(self) -> None:
        if self.path.is_dir():
            raise InputError(f"{self.path}: is a folder; give the name of a file")
        if self.path.exists() and not self.overwrite:
            raise InputError(f"{self.path}: exists already; use overwrite=True to replace it")
        if not self.path.parent.is_dir():
            raise InputError(f"{self.path.parent}: no such folder")

    def write(self, block: XPSpectra) -> None:
        """Append spectra.

        Raises
        ------
        InputError
            If the block has columns that the first one had not, or the file cannot be written.
        """
        if not isinstance(block, XPSpectra):
            raise InputError(f"write takes XPSpectra, not {type(block).__name__}")
        try:
            if self._sink is None:
                self._columns = _plan_columns(block)
                self._sink = self._stack.enter_context(written_sink(self.path, self._columns))
            _check_block(block, self._columns)
            for part in block.blocks(ROWS_AT_ONCE):
                self._sink.write({c.name: _take_values(part, c) for c in self._columns})
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error}") from error
        self.n_written += len(block)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises
        ------
        InputError
            If nothing was written, or a file of that name has appeared meanwhile.
        """
        try:
            if self._sink is None or not self.n_written:
                raise InputError(f"{self.path}: no spectra were given to write")
            self._check_target()
            try:
                self._stack.close()
                self._sink = None
            except OSError as error:
                raise InputError(f"{self.path}: cannot be written: {error}") from error
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Give up: remove what was written."""
        given_up = InputError(f"{self.path}: given up")
        with suppress(Exception):
            self._stack.__exit__(InputError, given_up, None)
        self._sink = None

    def __enter__(self) -> SpectraWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


@preserve_settings()
def write_spectra(
    spectra: XPSpectra, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write spectra in the archive's RAW form, so that `read_spectra` reads them back.

    Parameters
    ----------
    spectra : XPSpectra
    path : str or PathLike
        Its extension says the format: .csv, .ecsv, .fits, .fit, .xml, .vot, .votable (BINARY2),
        each also with .gz, .parquet, .pq (zstd), .h5 or .hdf5.
    overwrite : bool
        Replace an existing file.

    Raises
    ------
    InputError
        If the extension is unknown, the folder does not exist, the file does, or there are no
        spectra.

    Notes
    -----
    Numbers come back exactly. Text formats write each number with the fewest digits that give it
    back in its own precision, as the archive does; reading text gives errors in 64 bits and
    correlations in 32.
    """
    with SpectraWriter(path, overwrite=overwrite) as writer:
        writer.write(spectra)


def _check_format(path: Path) -> None:
    try:
        table_format(path)
    except InputError:
        raise InputError(
            f"{path}: unknown extension; spectra are written as .csv, .csv.gz, .ecsv, .fits, .xml"
            " or .vot (VOTable), .parquet, .h5 or .hdf5"
        ) from None


def _plan_columns(spectra: XPSpectra) -> list[Column]:
    """List the columns that these spectra need, in the archive's order."""
    extras = _plan_extras(spectra)
    plan = [
        Column(
            "source_id",
            np.dtype(np.int64),
            description="Unique source identifier (unique within a particular data release)",
            ucd="meta.id;meta.main",
        ),
        *(c for c in extras if c.name == "solution_id"),
    ]
    for name in ("bp", "rp"):
        band: BandSpectra = getattr(spectra, name)
        for quantity, text in _BAND.items():
            dtype = np.dtype(np.int16)
            if quantity in _ARRAYS:
                values = _get_arrays(band, quantity)
                if values is None and not band.n_coefficients.any():
                    # One band may be missing from all rows of the first block only.
                    values = _get_arrays(spectra.rp if name == "bp" else spectra.bp, quantity)
                if values is None:
                    continue
                dtype = values.dtype
            plan.append(
                Column(
                    f"{name}_{quantity}",
                    dtype,
                    ragged=quantity in _ARRAYS,
                    description=text.format(B=name.upper()),
                )
            )
    return [*plan, *(c for c in extras if c.name != "solution_id")]


def _get_arrays(band: BandSpectra, quantity: str) -> Any:
    return getattr(band, quantity.removeprefix("coefficient_"))


def _plan_extras(spectra: XPSpectra) -> list[Column]:
    table = spectra.columns
    extras: list[Column] = []
    if table is None:
        return extras
    for name in table.colnames:
        if name.lower() in _OWN:
            logger.info("column '%s' is written from the spectra themselves", name)
            continue
        column = table[name]
        if getattr(column, "ndim", 1) != 1:
            raise InputError(f"column '{name}' holds arrays, which are not written with spectra")
        dtype = _as_masked(column, name).dtype
        info = column.info
        extras.append(
            Column(
                name,
                np.dtype("U") if dtype.kind == "U" else dtype,
                unit=str(info.unit) if info.unit else None,
                description=info.description,
                ucd=(info.meta or {}).get("ucd"),
            )
        )
    return extras


def _as_masked(column: Any, name: str) -> np.ma.MaskedArray[Any, Any]:
    """Return a column as booleans, numbers or text with a mask."""
    values = simplify_column(column, name)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    return np.ma.MaskedArray(np.ma.getdata(values), mask=np.ma.getmaskarray(values))


def _take_values(spectra: XPSpectra, column: Column) -> Arrays | np.ma.MaskedArray[Any, Any]:
    """Return a column's values for a block."""
    name = column.name
    if name == "source_id":
        return np.ma.MaskedArray(spectra.source_id)
    if name not in _OWN:
        return _take_extra(spectra, column)
    band: BandSpectra = getattr(spectra, name[:2])
    quantity = name[3:]
    lengths: NDArray[np.int64] = band.n_coefficients.astype(np.int64)
    if quantity == "basis_function_id":
        return np.ma.MaskedArray(band.basis_id.astype(np.int16), mask=band.basis_id <= 0)
    if quantity == "n_parameters":
        return np.ma.MaskedArray(lengths.astype(np.int16), mask=lengths == 0)
    values = _get_arrays(band, quantity)
    if values is None:
        return Arrays(np.empty((len(lengths), 0), dtype=column.dtype), np.zeros_like(lengths))
    if quantity == "coefficient_correlations":
        lengths = lengths * (lengths - 1) // 2
    if quantity != "coefficients" and values.shape[1]:
        lengths = np.where(np.isnan(values).all(axis=1), 0, lengths)
    return Arrays(values.astype(column.dtype, copy=False), lengths)


def _check_block(spectra: XPSpectra, plan: list[Column]) -> None:
    """Refuse a block that has more than the first block had."""
    planned = {column.name for column in plan}
    for column in _plan_columns(spectra):
        if column.name not in planned:
            raise InputError(
                f"this block has '{column.name}', which the first block had not: all blocks of a"
                " file must have the same columns"
            )


def _take_extra(spectra: XPSpectra, column: Column) -> np.ma.MaskedArray[Any, Any]:
    n = len(spectra)
    if spectra.columns is None or column.name not in spectra.columns.colnames:
        dtype = np.dtype("U1") if column.dtype.kind == "U" else column.dtype
        return np.ma.MaskedArray(np.zeros(n, dtype=dtype), mask=True)
    values = _as_masked(spectra.columns[column.name], column.name)
    if column.dtype.kind == "U" or values.dtype == column.dtype:
        return np.ma.asarray(cast_column(values, column.dtype))
    there = np.ma.getdata(values)[~values.mask]
    fits = np.can_cast(values.dtype, column.dtype, casting="same_kind")
    if fits and there.size:  # without loss
        back = there.astype(column.dtype).astype(values.dtype)
        fits = np.array_equal(back, there, equal_nan=True)
    if not fits and there.size:
        raise InputError(
            f"column '{column.name}' is {column.dtype} in the first block and {values.dtype} now"
        )
    found = np.zeros(n, dtype=column.dtype)
    found[~values.mask] = there
    return np.ma.MaskedArray(found, mask=values.mask)
