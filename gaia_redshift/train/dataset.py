"""Check labelled vectors, split them, and scale them by their training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.datasets.checks import MINIMUM_GALAXIES
from gaia_redshift.datasets.splits import PARTS
from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_BP, N_FLUX
from gaia_redshift.model.scaler import Inputs, MinMaxScaler, NoiseScaler, Scaler
from gaia_redshift.train.config import TrainingConfig
from gaia_redshift.train.sources import LabelledVectors

__all__ = [
    "TrainingSet",
    "check_parts",
    "check_redshifts",
    "prepare_dataset",
    "split_rows",
]

NO_GALAXY = -1.0
"""Stands for the redshift of what is no galaxy."""


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled vectors, split in three, and how they are scaled.

    ``rows`` are those of the galaxies in the parts "train", "validation" and "test", ``others``
    those of stars, quasars and so on. The scaler was fitted on the training part alone; rows in
    ``moved`` are trained on as sampled on moved grids.
    """

    vectors: LabelledVectors
    rows: Mapping[str, NDArray[np.intp]]
    others: Mapping[str, NDArray[np.intp]]
    scaler: Scaler
    moved: NDArray[np.bool_]  # (n,)

    def take(self, part: str, *, others: bool = False) -> LabelledVectors:
        """Return the galaxies of a part, or the others."""
        return self.vectors[(self.others if others else self.rows)[part]]

    def scale(self, vectors: LabelledVectors) -> Inputs:
        """Return the network's inputs for some vectors."""
        return self.scaler.transform(vectors.flux, vectors.flux_error)

    def draw_inputs(
        self, rows: NDArray[np.intp], rng: np.random.Generator, config: TrainingConfig
    ) -> Inputs:
        """Inputs for training: some rows on moved grids, levels and errors changed or hidden."""
        flux = _take_flux(self.vectors, self.moved, rows)
        flux_error = None
        factor_of_all = None
        if config.level_jitter:
            drawn = 10 ** rng.normal(0.0, config.level_jitter, len(rows))
            factor_of_all = drawn.astype(np.float32)[:, None]
            flux = flux * factor_of_all
        if self.vectors.flux_error is not None:
            factor = np.exp(rng.normal(0.0, config.error_jitter, (len(rows), 2)))
            factor[rng.uniform(size=len(rows)) < config.error_dropout] = np.nan
            flux_error = self.vectors.flux_error[rows]
            if factor_of_all is not None:
                flux_error *= factor_of_all
            flux_error *= np.repeat(factor, (N_BP, N_FLUX - N_BP), axis=1)
        return self.scaler.transform(flux, flux_error)

    def repeat_rows(self, times: int) -> NDArray[np.intp]:
        """Galaxies of the training part as an epoch shows them: the given ones so many times.

        Those that were mixed in come once.
        """
        rows = self.rows["train"]
        given = rows[rows < self.vectors.n_given]
        return np.concatenate([np.tile(given, times), rows[rows >= self.vectors.n_given]])

    def get_targets(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """What rows are trained on: the true redshift, or `NO_GALAXY`."""
        target = self.vectors.redshift[rows].astype(np.float32)
        if self.vectors.is_galaxy is not None:
            target[~self.vectors.is_galaxy[rows]] = NO_GALAXY
        return target


def prepare_dataset(
    vectors: LabelledVectors,
    config: TrainingConfig,
    scaler_type: type[Scaler] = MinMaxScaler,
    scaler: Scaler | None = None,
) -> TrainingSet:
    """Check, split and scale: by a model's ``scaler``, or one fitted on the training part.

    Raises `InputError` for missing redshifts, redshifts outside the range, or too few galaxies.
    """
    check_redshifts(vectors, config)
    if len(vectors) < MINIMUM_GALAXIES:
        raise InputError(
            f"a training needs at least {MINIMUM_GALAXIES} galaxies with usable spectra,"
            f" these are {len(vectors)}"
        )
    everything = split_rows(vectors, config)
    galaxy = np.ones(len(vectors), bool) if vectors.is_galaxy is None else vectors.is_galaxy
    rows = {part: chosen[galaxy[chosen]] for part, chosen in everything.items()}
    others = {part: chosen[~galaxy[chosen]] for part, chosen in everything.items()}
    check_parts({part: vectors.source_id[rows[part]] for part in PARTS})
    moved = np.random.default_rng([config.seed, 3]).uniform(size=len(vectors)) < config.grid_jitter
    flux = _take_flux(vectors, moved, rows["train"])
    errors = None if vectors.flux_error is None else vectors.flux_error[rows["train"]]
    if scaler_type is NoiseScaler and (errors is None or not np.isfinite(errors).all(axis=1).any()):
        raise InputError(
            f"the network {config.network!r} learns from flux errors, and no spectrum has any:"
            " give spectra with coefficient errors and correlations, or choose another network"
        )
    return TrainingSet(vectors, rows, others, scaler or scaler_type.fit(flux, errors), moved)


def split_rows(vectors: LabelledVectors, config: TrainingConfig) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each part: as the source splits them, or drawn.

    A split is drawn over sources, not rows: observations of one source stay together.
    """
    if vectors.split is not None:
        return {part: np.flatnonzero(vectors.split == part) for part in PARTS}
    unique, group = np.unique(vectors.source_id, return_inverse=True)
    order = np.random.default_rng([config.seed, 0]).permutation(len(unique))
    first = round(config.split[0] * len(unique))
    second = round((config.split[0] + config.split[1]) * len(unique))
    part_of_group = np.full(len(unique), 2)
    part_of_group[order[:second]] = 1
    part_of_group[order[:first]] = 0
    return {part: np.flatnonzero(part_of_group[group] == i) for i, part in enumerate(PARTS)}


def _take_flux(
    vectors: LabelledVectors, moved: NDArray[np.bool_], rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Fluxes of some rows, shape (n, 186), on moved grids where they are to be."""
    flux = vectors.flux[rows]
    if vectors.flux_moved is not None:
        here = moved[rows]
        flux[here] = vectors.flux_moved[rows[here]]
    return flux


def check_parts(parts: Mapping[str, NDArray[np.int64]]) -> None:
    """Refuse parts (source_id by name) that are empty or share sources, with an `InputError`."""
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


def check_redshifts(vectors: LabelledVectors, config: TrainingConfig) -> None:
    """Refuse redshifts that are missing or outside the range, with an `InputError`."""
    redshift, limits = vectors.redshift, config.redshift_range
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
