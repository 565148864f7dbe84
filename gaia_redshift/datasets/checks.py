"""What should not be trained on is refused, each in one line: `check_dataset`, `check_separate`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.datasets.file import GalaxyDataset, read_columns, read_dataset
from gaia_redshift.datasets.rules import (
    MINIMUM_GALAXIES,
    check_content,
    describe_rows,
    stated_range,
)
from gaia_redshift.errors import InputError

__all__ = ["check_dataset", "check_separate"]


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
    if not isinstance(dataset, GalaxyDataset):
        return read_dataset(dataset, redshift_range=redshift_range, minimum=minimum)
    vectors = dataset.vectors
    check_content(
        dataset.label,
        source_id=vectors.source_id,
        redshift=dataset.redshift,
        split=dataset.split,
        region=dataset.region,
        ra=dataset.ra,
        dec=dataset.dec,
        redshift_range=redshift_range or stated_range(dataset.manifest),
        minimum=minimum,
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
    if isinstance(data, str | os.PathLike):
        return np.asarray(read_columns(data, ["source_id"])["source_id"])
    if isinstance(data, GalaxyDataset):
        return data.vectors.source_id
    from gaia_redshift.readers.columns import to_source_ids

    return to_source_ids(np.asarray(getattr(data, "source_id", data)), "source_id")
