"""The columns of the archive's RAW form, and their values for a block of spectra."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.spectra import BandSpectra, XPSpectra
from gaia_redshift.tables.columns import Arrays, Column
from gaia_redshift.tables.types import cast_column, simplify_column

__all__ = ["check_block", "plan_columns", "take_values"]

logger = logging.getLogger(__name__)

_BAND = {
    "basis_function_id": "Identifier of the set of basis functions of the {B} spectrum",
    "n_parameters": "Number of coefficients of the {B} spectrum",
    "coefficients": "Basis function coefficients of the {B} spectrum",
    "coefficient_errors": "Standard errors of the {B} coefficients",
    "coefficient_correlations": (
        "Correlations of the {B} coefficients, column-ordered upper triangle"
    ),
}
_ARRAYS = {
    "coefficients": "coefficients",
    "coefficient_errors": "errors",
    "coefficient_correlations": "correlations",
}
_OWN = {"source_id", *(f"{band}_{quantity}" for band in ("bp", "rp") for quantity in _BAND)}


def plan_columns(spectra: XPSpectra) -> list[Column]:
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
                values = getattr(band, _ARRAYS[quantity])
                if values is None:
                    # One band may be missing from all rows of the first block only.
                    other = getattr(spectra.rp if name == "bp" else spectra.bp, _ARRAYS[quantity])
                    if other is None or band.n_coefficients.any():
                        continue
                    values = other
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


def take_values(spectra: XPSpectra, column: Column) -> Arrays | np.ma.MaskedArray[Any, Any]:
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
    values = getattr(band, _ARRAYS[quantity])
    if values is None:
        return Arrays(np.empty((len(lengths), 0), dtype=column.dtype), np.zeros_like(lengths))
    if quantity == "coefficient_correlations":
        lengths = lengths * (lengths - 1) // 2
    if quantity != "coefficients" and values.shape[1]:
        lengths = np.where(np.isnan(values).all(axis=1), 0, lengths)
    return Arrays(values.astype(column.dtype, copy=False), lengths)


def check_block(spectra: XPSpectra, plan: list[Column]) -> None:
    """Refuse a block that has more than the first block had."""
    planned = {column.name for column in plan}
    for column in plan_columns(spectra):
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
