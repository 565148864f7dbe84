"""What should not be trained on is refused, each in one line: `check_dataset`, `check_separate`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.datasets.splits import PARTS, find_twins
from gaia_redshift.errors import InputError

if TYPE_CHECKING:
    from gaia_redshift.datasets.file import GalaxyDataset

__all__ = [
    "MINIMUM_GALAXIES",
    "check_content",
    "check_dataset",
    "check_separate",
    "describe_rows",
    "stated_range",
]

MINIMUM_GALAXIES = 100
"""Fewer galaxies than this teach nothing and measure nothing."""
REDSHIFT_RANGE = (0.0, 0.6)
"""Where labels must lie if a data set does not say so itself."""
TWIN_ARCSEC = 2.0
"""Sources as near as this are taken for one galaxy."""


def check_dataset(
    dataset: GalaxyDataset | str | os.PathLike[str],
    *,
    redshift_range: tuple[float, float] | None = None,
    minimum: int = MINIMUM_GALAXIES,
) -> GalaxyDataset:
    """Refuse a training set that leaks, or whose labels or fluxes cannot be used.

    Parameters
    ----------
    dataset : GalaxyDataset or path
        A path is read whole.
    redshift_range : (float, float), optional
        Where labels must lie; by default the range of its cuts, else 0 to 0.6.
    minimum : int
        Fewest galaxies.

    Returns
    -------
    GalaxyDataset
        The one given, or read.

    Raises
    ------
    InputError
        In one line: too few galaxies; labels missing or outside the range; fluxes that are not
        finite; an unknown or empty part; parts that share sources, regions of the sky, or twins
        within 2 arcsec.
    """
    from gaia_redshift.datasets.file import GalaxyDataset, read_dataset

    if not isinstance(dataset, GalaxyDataset):
        return read_dataset(dataset, redshift_range=redshift_range, minimum=minimum)
    vectors = dataset.vectors
    check_content(
        dataset.label,
        {"source_id": vectors.source_id, **vars(dataset)},
        redshift_range or stated_range(dataset.manifest),
        minimum,
    )
    bad = np.asarray(~np.isfinite(vectors.flux).all(axis=1))
    if bad.any():
        raise InputError(f"{dataset.label}: {describe_rows(bad)} fluxes that are not finite")
    return dataset


def check_separate(training: Any, test: Any) -> None:
    """Refuse a test set that shares sources with a training set.

    Parameters
    ----------
    training, test : GalaxyDataset, path of one, FluxVectors, or array of source_id
        Of data sets all parts count.

    Raises
    ------
    InputError
        Naming how many sources they share, and one of them.

    Examples
    --------
    >>> check_separate([11, 12, 13], [14, 15])
    >>> check_separate([11, 12, 13], [13, 14])
    Traceback (most recent call last):
    ...
    gaia_redshift.errors.InputError: training and test set share 1 source (source_id 13): results \
would be too good to be true
    """
    shared = np.intersect1d(_take_ids(training), _take_ids(test))
    if len(shared):
        several = "s" * (len(shared) != 1)
        raise InputError(
            f"training and test set share {len(shared)} source{several} (source_id {shared[0]}"
            f"{', ...' if several else ''}): results would be too good to be true"
        )


def _take_ids(data: Any) -> NDArray[np.int64]:
    from gaia_redshift.datasets.file import GalaxyDataset, read_columns

    if isinstance(data, str | os.PathLike):
        return np.asarray(read_columns(data, ["source_id"])["source_id"])
    if isinstance(data, GalaxyDataset):
        return data.vectors.source_id
    from gaia_redshift.readers.values import to_source_ids

    return to_source_ids(np.asarray(getattr(data, "source_id", data)), "source_id")


def check_content(
    label: str, columns: Mapping[str, Any], redshift_range: tuple[float, float], minimum: int
) -> None:
    """Refuse what `check_dataset` refuses, but for the fluxes; columns (n,) by their names."""
    source_id, redshift, split = (columns[name] for name in ("source_id", "redshift", "split"))
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
    if columns.get("region") is not None:
        what = "the same region of the sky"
        _check_leaks(label, "region", columns["region"], split, what=what)
    twins = find_twins(source_id, columns["ra"], columns["dec"], TWIN_ARCSEC)
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
