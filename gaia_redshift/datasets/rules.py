"""What a training set must hold, told from its columns alone; every refusal is one line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.datasets.splits import PARTS, find_twins
from gaia_redshift.errors import InputError

__all__ = ["MINIMUM_GALAXIES", "check_content", "describe_rows", "stated_range"]

MINIMUM_GALAXIES = 100
"""Fewer galaxies than this teach nothing and measure nothing."""
REDSHIFT_RANGE = (0.0, 0.6)
"""Where labels must lie if a data set does not say so itself."""
TWIN_ARCSEC = 2.0
"""Sources as near as this are taken for one galaxy."""


def check_content(
    label: str,
    *,
    source_id: NDArray[np.int64],
    redshift: NDArray[np.float64],
    split: NDArray[np.str_],
    region: NDArray[np.int64] | None,
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    redshift_range: tuple[float, float],
    minimum: int,
) -> None:
    """Refuse what `check_dataset` refuses, but for the fluxes."""
    n = len(source_id)
    if n < minimum:
        raise InputError(f"{label}: holds {n} galaxies; a training needs at least {minimum}")
    missing = ~np.isfinite(redshift)
    if missing.any():
        raise InputError(f"{label}: {describe_rows(missing)} no redshift (NaN or masked)")
    low, high = redshift_range
    outside = (redshift < low) | (redshift > high)
    if outside.any():
        raise InputError(
            f"{label}: {describe_rows(outside)} a redshift outside {low:g} to {high:g}"
            f" (they reach from {redshift.min():g} to {redshift.max():g})"
        )
    unknown = sorted(set(np.unique(split).tolist()) - set(PARTS))
    if unknown:
        raise InputError(
            f"{label}: the column 'split' holds '{unknown[0]}'; it must be {', '.join(PARTS)}"
        )
    for part in PARTS:
        if not (split == part).any():
            raise InputError(f"{label}: the {part} part is empty")
    _check_leaks(label, "source_id", source_id, split, what="the same source")
    if region is not None:
        _check_leaks(label, "region", region, split, what="the same region of the sky")
    twins = find_twins(source_id, ra, dec, TWIN_ARCSEC)
    what = f"a pair of sources within {TWIN_ARCSEC:g} arcsec"
    _check_leaks(label, None, twins, split, what=what, source_id=source_id)


def _check_leaks(
    label: str,
    column: str | None,
    group: NDArray[Any],
    split: NDArray[np.str_],
    *,
    what: str,
    source_id: NDArray[np.int64] | None = None,
) -> None:
    """Refuse groups of which members are in several parts."""
    number = np.searchsorted(np.array(sorted(PARTS)), split)
    order = np.lexsort((number, group))
    apart = (np.diff(group[order]) == 0) & (np.diff(number[order]) != 0)
    if not apart.any():
        return
    first = order[int(np.argmax(apart))]
    second = order[int(np.argmax(apart)) + 1]
    example = f"{column} {group[first]}" if column else f"source_id {source_id[first]}"  # type: ignore[index]
    raise InputError(
        f"{label}: leak: {int(apart.sum())} times {what} is in two parts ({example} in"
        f" {split[first]} and {split[second]}): results would be too good to be true"
    )


def stated_range(manifest: dict[str, Any]) -> tuple[float, float]:
    """Return the range of redshifts that a manifest states."""
    low, high = manifest.get("cuts", {}).get("redshift_range", REDSHIFT_RANGE)
    return float(low), float(high)


def describe_rows(bad: NDArray[np.bool_]) -> str:
    """Say how many rows, and which the first is: "3 of 120 rows (the first is row 7) have"."""
    first = int(np.argmax(bad)) + 1
    return f"{int(bad.sum())} of {len(bad)} rows (the first is row {first}) have"
