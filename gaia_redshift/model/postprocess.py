"""From what a network returns to redshifts and flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import QualityFlag
from gaia_redshift.model.distribution import Prior, compute_quantiles
from gaia_redshift.model.scaler import measure_mean_flux

if TYPE_CHECKING:
    from gaia_redshift.model.registry import RedshiftModel

__all__ = ["Answer", "Prediction", "flag_distributions", "flag_redshifts", "measure_overlap"]

Float = NDArray[np.float64]

_WIDE = 0.05
"""Half of the 68 % interval, over 1 + redshift, from which a distribution counts as wide."""
_PEAK = 0.2
"""Bins with less than this part of the highest one's probability separate peaks."""
_SECOND = 0.1
"""Smallest share of other peaks that counts."""
_FAR = 0.05
"""Distance from the highest peak, over 1 + redshift, at which they do: noise that looks like a
feature makes peaks 0.02 apart in most distributions, which an interval describes well enough."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about n sources.

    Parameters
    ----------
    redshift : ndarray, shape (n,), float64
        NaN where a flux was not finite. The median, from models that give distributions.
    flags : ndarray, shape (n,), int32
        The `gaia_redshift.flags.QualityFlag` bits that a model sets, to be joined with those of
        the vectors.
    lower, upper : ndarray, shape (n,), float64, or None
        16th and 84th percentile, from models that give distributions.
    std : ndarray, shape (n,), float64, or None
        Standard deviation of the distribution, where asked for.
    pdf : ndarray, shape (n, m), float32, or None
        Probability density in bins of redshift, where asked for.
    edges : ndarray, shape (m + 1,), or None
        Edges of these bins.
    prior : str or None
        Name of the redshift distribution that was taken for the sky's.
    novelty : ndarray, shape (n,), float64, or None
        How unlike the training set's galaxies each is: above 1 it is flagged.
    probability_galaxy : ndarray, shape (n,), float64, or None
        Of being a galaxy rather than a star, a quasar or a blend, from models that tell.
    shape : ndarray, shape (n,), float64, or None
        The median under a flat prior, where asked for.
    """

    redshift: Float
    flags: NDArray[np.int32]
    lower: Float | None = None
    upper: Float | None = None
    std: Float | None = None
    pdf: NDArray[np.float32] | None = None
    edges: Float | None = None
    prior: str | None = None
    novelty: Float | None = None
    probability_galaxy: Float | None = None
    shape: Float | None = None

    def __len__(self) -> int:
        return len(self.redshift)


def flag_redshifts(
    excess: Float,
    redshift: Float,
    *,
    redshift_range: tuple[float, float],
    flux_tolerance: float,
) -> NDArray[np.int32]:
    """Return flags (n,) of rows where the model had to extrapolate.

    FLUX_OUT_OF_RANGE where ``excess`` (n,), how far outside the training part's fluxes a row lies
    in parts of their range, is above the tolerance; REDSHIFT_OUT_OF_RANGE beyond the training
    redshifts.
    """
    flags = np.zeros(len(redshift), dtype=np.int32)
    low, high = redshift_range
    flags[~((redshift >= low) & (redshift <= high))] |= QualityFlag.REDSHIFT_OUT_OF_RANGE
    flags[excess > flux_tolerance] |= QualityFlag.FLUX_OUT_OF_RANGE
    return flags


def measure_overlap(shape: NDArray[np.floating], prior: NDArray[np.floating]) -> Float:
    """Overlap of p(z | shape) with a prior, (n, m) each: the sum of the product's root, (n,).

    1 where they are the same, 0 where they share none.
    """
    product = shape * prior
    return np.asarray(np.sqrt(product, out=product).sum(axis=1), dtype=np.float64)


def flag_distributions(
    probability: NDArray[np.floating], edges: Float, lower: Float, median: Float, upper: Float
) -> NDArray[np.int32]:
    """Return flags (n,) of distributions (n, m) that touch an end, are wide, or have several peaks.

    ``lower``, ``median`` and ``upper`` (n,) are the 16th, 50th and 84th percentile.
    """
    flags = np.zeros(len(probability), dtype=np.int32)
    mode = probability.argmax(axis=1)
    at_edge = (mode == 0) | (mode == probability.shape[1] - 1)
    flags[at_edge | (lower < edges[1]) | (upper > edges[-2])] |= QualityFlag.REDSHIFT_AT_EDGE
    flags[upper - lower > 2 * _WIDE * (1 + median)] |= QualityFlag.WIDE_DISTRIBUTION
    highest = probability[np.arange(len(probability)), mode][:, None]
    high = probability > (_PEAK * highest).astype(probability.dtype)
    at = (0.5 * (edges[1:] + edges[:-1])).astype(probability.dtype)
    top = at[mode]
    first, last = high.argmax(axis=1), len(at) - 1 - high[:, ::-1].argmax(axis=1)
    several = np.flatnonzero(np.maximum(top - at[first], at[last] - top) > _FAR * (1 + top))
    if len(several):
        # Runs are numbered; the run of the highest bin holds most of what is high.
        high = high[several]
        starts = high & ~np.pad(high, ((0, 0), (1, 0)))[:, :-1]
        run = np.cumsum(starts, axis=1)
        part = np.where(high, probability[several], 0.0)
        main = run[np.arange(len(several)), mode[several]]
        top = top[several, None]
        other = (run != main[:, None]) & (np.abs(at - top) > _FAR * (1 + top))
        with np.errstate(invalid="ignore"):  # nothing is high of what a network has no number for
            share = np.where(other, part, 0.0).sum(axis=1) / part.sum(axis=1)
        flags[several[share > _SECOND]] |= QualityFlag.MULTIPLE_PEAKS
    return flags


class Answer:
    """A prediction while its blocks come in."""

    def __init__(
        self,
        n: int,
        model: RedshiftModel,
        prior: Prior | None,
        *,
        std: bool,
        pdf: bool,
        shape: bool,
    ) -> None:
        self._model = model
        self._flags = np.zeros(n, dtype=np.int32)
        self._values = {"redshift": np.full(n, np.nan)}
        self._pdf: NDArray[np.float32] | None = None
        self._prior_name: str | None = None
        if model.novelty is not None:
            self._values["novelty"] = np.full(n, np.nan)
        if model.bins is not None:
            self._prior_name, self._prior = model.bins.resolve_prior(prior)
            asked = {"std": std, "shape": shape}
            asked["probability_galaxy"] = model.bins.galaxy_threshold is not None
            names = ["lower", "upper", *(name for name, so in asked.items() if so)]
            self._values |= {name: np.full(n, np.nan) for name in names}
            if pdf:
                bins = len(model.bins.density)
                self._pdf = np.full((n, bins), np.nan, dtype=np.float32)

    def add(
        self,
        rows: slice | NDArray[np.intp],
        output: NDArray[np.float32],
        flux: NDArray[np.floating],
        flux_error: NDArray[np.floating] | None,
    ) -> None:
        """Take in the network's output for some rows, and their fluxes and errors (n, 186)."""
        model, values = self._model, self._values
        flags = np.zeros(len(output), dtype=np.int32)
        if model.bins is None:
            redshift = output[:, 0].astype(np.float64)
        else:
            redshift, flags = self._add_distributions(rows, output, flux, flux_error)
        values["redshift"][rows] = redshift
        if model.novelty is not None:
            score = model.novelty.compute_score(flux, flux_error)
            values["novelty"][rows] = score
            flags[score > 1] |= QualityFlag.UNLIKE_TRAINING
        flags |= flag_redshifts(
            model.scaler.measure_excess(flux),
            redshift,
            redshift_range=model.redshift_range,
            flux_tolerance=model.manifest["flux_tolerance"],
        )
        self._flags[rows] = flags

    def _add_distributions(
        self,
        rows: slice | NDArray[np.intp],
        output: NDArray[np.float32],
        flux: NDArray[np.floating],
        flux_error: NDArray[np.floating] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        bins = self._model.bins
        assert bins is not None
        known = np.zeros(len(output), dtype=bool)
        if flux_error is not None:
            known = (np.isfinite(flux_error) & (flux_error > 0)).all(axis=1)
        logits = output[:, : len(bins.density)]
        mean_flux = measure_mean_flux(flux)
        prior = bins.spread_prior(self._prior, flux)
        by_flux = prior.ndim == 2
        if by_flux or "shape" in self._values:
            flat = np.asarray(bins.resolve_prior("flat")[1])
            shape = bins.compute_probability(logits, known, mean_flux, flat)
        probability = (
            bins.replace_flat(shape, prior)
            if by_flux
            else bins.compute_probability(logits, known, mean_flux, prior)
        )
        lower, median, upper = compute_quantiles(probability, bins.edges, (0.16, 0.5, 0.84))
        self._values["lower"][rows], self._values["upper"][rows] = lower, upper
        if "std" in self._values:
            # Each bin adds the variance of an even distribution within it.
            exact = probability.astype(np.float64)
            mean = exact @ bins.centers
            square = exact @ (bins.centers**2 + np.diff(bins.edges) ** 2 / 12)
            self._values["std"][rows] = np.sqrt(np.maximum(square - mean**2, 0.0))
        if self._pdf is not None:
            self._pdf[rows] = probability / np.diff(bins.edges)
        flags = flag_distributions(probability, bins.edges, lower, median, upper)
        if by_flux:
            overlap = measure_overlap(shape, prior)
            flags[overlap < bins.conflict_threshold] |= QualityFlag.PRIOR_CONFLICT
        if "shape" in self._values:
            self._values["shape"][rows] = compute_quantiles(shape, bins.edges, 0.5)[0]
        if bins.galaxy_threshold is not None:
            logit = np.clip(output[:, -1].astype(np.float64), -500.0, 500.0)
            galaxy = 1.0 / (1.0 + np.exp(-logit))
            self._values["probability_galaxy"][rows] = galaxy
            flags[galaxy < bins.galaxy_threshold] |= QualityFlag.UNLIKELY_GALAXY
        if flux_error is not None:
            with np.errstate(invalid="ignore"):
                noisy = flux.mean(axis=1) < bins.low_signal * flux_error.mean(axis=1)
            flags[noisy & known] |= QualityFlag.LOW_SIGNAL_TO_NOISE
        return median, flags

    def finish(self) -> Prediction:
        """Return what was found; NaN in rows that were not added."""
        redshift = self._values["redshift"]
        redshift[~np.isfinite(redshift)] = np.nan
        bins = self._model.bins
        return Prediction(
            flags=self._flags,
            pdf=self._pdf,
            edges=None if bins is None else bins.edges,
            prior=self._prior_name,
            **self._values,
        )
