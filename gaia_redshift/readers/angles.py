"""Positions in degrees, whatever unit and form a column has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.readers.arrays import parse_number_cells
from gaia_redshift.readers.columns import from_arrow

__all__ = ["find_factor", "find_placed", "to_degrees", "to_unit_vectors"]

_DEGREES = ("", "deg", "degree", "degrees", "none")
_HOURS = ("h", "hr", "hour", "hours", "hourangle")
"""Astronomers write right ascensions in hours of time, 15 degrees each."""


def find_factor(unit: Any, name: str, label: str) -> float:
    """Return what a number in a unit (None: degrees) is to be multiplied with to be degrees."""
    words = "" if unit is None else str(unit).strip()
    if words.lower() in _DEGREES:
        return 1.0
    if words.lower() in _HOURS:
        return 15.0
    from astropy import units

    for text in (words, words.lower()):
        try:
            return float(units.Unit(text).to("deg"))
        except (ValueError, TypeError):
            continue
    raise InputError(f"{label}: column '{name}' has unit {words}, no angle: degrees are needed")


def find_placed(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows (n,) have a position on the sky, in degrees."""
    return np.asarray(np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90))


def to_unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions in degrees as vectors (n, 3)."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.column_stack((np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))


def to_degrees(column: Any, unit: Any, name: str, label: str) -> NDArray[np.float64]:
    """Return a column (n,), of numbers or of text, as degrees, NaN where it is masked or blank."""
    factor = find_factor(unit, name, label)
    values = from_arrow(getattr(column, "value", column))
    if not isinstance(values, list):
        array = np.ma.asarray(values)
        if array.dtype.kind in "fiu":
            return np.asarray(np.ma.filled(array.astype(np.float64), np.nan)) * factor
        hidden = np.ma.getmaskarray(array).tolist()
        cells = np.ma.getdata(array).tolist()
        values = [None if h else cell for cell, h in zip(cells, hidden, strict=True)]
    if any(isinstance(cell, bool) for cell in values):
        raise InputError(f"{label}: column '{name}' must hold degrees as numbers")
    texts = [c if isinstance(c, str | bytes | None) else str(c) for c in values]
    numbers, damaged = parse_number_cells(texts)
    if damaged.any():
        shown = texts[int(np.argmax(damaged))]
        word = shown.decode("utf-8", "replace") if isinstance(shown, bytes) else str(shown)
        raise InputError(
            f"{label}: column '{name}' must hold degrees as numbers, not '{word[:40]}'"
        )
    return numbers * factor
