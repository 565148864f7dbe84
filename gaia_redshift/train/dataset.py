"""Check labelled vectors, split them, and scale them by their training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.model.scaler import MinMaxScaler
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.sources import LabelledVectors

__all__ = ["MINIMUM_GALAXIES", "PARTS", "TrainingSet", "check_parts", "prepare_dataset"]

MINIMUM_GALAXIES = 100
"""Fewer galaxies than this are refused: nothing could be learnt or measured with them."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled vectors, split in three and scaled.

    Parameters
    ----------
    vectors : LabelledVectors
        All of them.
    rows : mapping of str to ndarray of int
        Row numbers of the parts ``train``, ``validation`` and ``test``.
    scaler : MinMaxScaler
        Fitted on the training part alone.
    """

    vectors: LabelledVectors
    rows: Mapping[str, NDArray[np.intp]]
    scaler: MinMaxScaler

    def get_inputs(self, part: str) -> NDArray[np.float32]:
        """Scaled fluxes of a part, shape (n, 186); of the training part on moved grids, if any."""
        return self.scaler.transform(_take_flux(self.vectors, part)[self.rows[part]])

    def get_redshifts(self, part: str) -> NDArray[np.float64]:
        """True redshifts of a part, shape (n,)."""
        return self.vectors.redshift[self.rows[part]]


def prepare_dataset(vectors: LabelledVectors, config: TrainingConfig) -> TrainingSet:
    """Check, split and scale.

    The split is drawn over sources, not rows: observations of one source stay together.

    Parameters
    ----------
    vectors : LabelledVectors
    config : TrainingConfig
        Its ``split``, ``seed`` and ``redshift_range`` are used.

    Returns
    -------
    TrainingSet

    Raises
    ------
    InputError
        For missing redshifts, redshifts outside the range, or too few galaxies.
    """
    _check_redshifts(vectors.redshift, config.redshift_range)
    if len(vectors) < MINIMUM_GALAXIES:
        raise InputError(
            f"a training needs at least {MINIMUM_GALAXIES} galaxies with usable spectra,"
            f" these are {len(vectors)}"
        )
    unique, group = np.unique(vectors.source_id, return_inverse=True)
    order = np.random.default_rng([config.seed, 0]).permutation(len(unique))
    first = round(config.split[0] * len(unique))
    second = round((config.split[0] + config.split[1]) * len(unique))
    part_of_group = np.full(len(unique), 2)
    part_of_group[order[:second]] = 1
    part_of_group[order[:first]] = 0
    rows = {part: np.flatnonzero(part_of_group[group] == i) for i, part in enumerate(PARTS)}
    check_parts({part: vectors.source_id[rows[part]] for part in PARTS})
    return TrainingSet(vectors, rows, MinMaxScaler.fit(_take_flux(vectors, "train")[rows["train"]]))


def _take_flux(vectors: LabelledVectors, part: str) -> NDArray[np.float32]:
    moved = part == "train" and vectors.flux_moved is not None
    return vectors.flux_moved if moved else vectors.flux  # type: ignore[return-value]


def check_parts(parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Refuse parts that are empty or share sources.

    Parameters
    ----------
    parts : mapping of str to ndarray of int64
        The source_id of each part.

    Raises
    ------
    InputError
        Naming the two parts and one source that they share.
    """
    names = list(parts)
    for i, name in enumerate(names):
        if not len(parts[name]):
            raise InputError(f"the {name} part is empty: give more galaxies or another split")
        for other in names[:i]:
            shared = np.intersect1d(parts[other], parts[name])
            if len(shared):
                raise InputError(
                    f"the {other} and {name} parts share {len(shared)} sources (source_id"
                    f" {shared[0]}, ...): results would be too good to be true"
                )


def _check_redshifts(redshift: NDArray[np.float64], limits: tuple[float, float]) -> None:
    bad = int((~np.isfinite(redshift)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(redshift)} true redshifts are missing or not finite; remove those rows"
        )
    outside = (redshift < limits[0]) | (redshift > limits[1])
    if outside.any():
        raise InputError(
            f"{int(outside.sum())} of {len(redshift)} true redshifts lie outside"
            f" {limits[0]:g} to {limits[1]:g} (from {redshift.min():g} to {redshift.max():g});"
            " remove those rows or set redshift_range"
        )
