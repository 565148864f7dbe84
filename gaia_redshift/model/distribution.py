"""Redshift distributions: from a network's outputs, by a prior, to quantiles.

A network trained on galaxies with redshifts distributed as ``density`` returns
p(z | spectrum) proportional to p(spectrum | z) density(z). Another distribution of redshifts, the
prior, is put in its place by Bayes' theorem: the result is multiplied by prior(z) / density(z).
Where the training galaxies' flux said nothing of their redshift, the prior may depend on the flux
(`gaia_redshift.model.prior.MagnitudePrior`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model.prior import MagnitudePrior, measure_rp_flux

__all__ = [
    "Prior",
    "RedshiftBins",
    "compute_quantiles",
    "parse_bins",
    "smooth_density",
]

Float = NDArray[np.float64]
Prior = str | ArrayLike | Callable[[Float], ArrayLike] | MagnitudePrior
"""A name, one density for each bin, a function of redshift, or one for each brightness."""

_SMALL = 20_000
"""Larger samples fill every bin."""
_REACH = 2.0
"""The temperature follows ln(brightness) so far from the typical one, and no further."""


@dataclass(frozen=True, eq=False)
class RedshiftBins:
    """What turns outputs of a network into distributions.

    ``density`` is the redshift distribution of the training galaxies in bins of these ``edges``;
    ``priors`` are others by name. The temperatures, of spectra with errors and without, divide the
    logits of spectra with the mean flux ``typical_level``; the slopes are those of their logarithm
    over the flux's. Spectra whose mean flux is less than ``low_signal`` times their mean error are
    noisy; probabilities of being a galaxy below ``galaxy_threshold`` (None where the network did
    not learn to tell) are unlikely; distributions without prior that overlap with a magnitude prior
    by less than ``conflict_threshold`` contradict it. ``blind_to_flux`` is whether the training
    galaxies' flux said nothing of their redshift.
    """

    edges: Float  # (m + 1,)
    density: Float  # (m,)
    priors: Mapping[str, Float | MagnitudePrior]  # (m,) each
    default_prior: str = "training"
    temperature: tuple[float, float] = (1.0, 1.0)
    temperature_slope: tuple[float, float] = (0.0, 0.0)
    typical_level: float = 1.0  # e-/s per sample
    low_signal: float = 3.0
    galaxy_threshold: float | None = None
    conflict_threshold: float = 0.0
    blind_to_flux: bool = False

    @property
    def centers(self) -> Float:
        """Middles of the bins, shape (m,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def resolve_prior(self, prior: Prior | None = None) -> tuple[str, Float | MagnitudePrior]:
        """Return a prior's name and its probability in each bin, shape (m,), or it itself.

        A prior is a name in ``priors``, ``"flat"`` or ``"training"``; densities for the bins; a
        function from redshifts, shape (m,), to densities, any unit; or one that depends on the
        flux, which only models that are blind to it take. Raises `InputError` for others.
        """
        if prior is None:
            prior = self.default_prior
        if isinstance(prior, MagnitudePrior):
            if not self.blind_to_flux:
                raise InputError(
                    "this model has learned what the flux says of the redshift: a magnitude prior"
                    " would count it twice; give a redshift distribution"
                )
            return "user", prior
        if isinstance(prior, str):
            known: dict[str, Float | MagnitudePrior] = {
                "flat": np.diff(self.edges) / np.diff(self.edges).sum(),
                "training": self.density,
                **self.priors,
            }
            if prior not in known:
                raise InputError(
                    f"no prior named {prior!r}; known: {', '.join(sorted(known))}, or give"
                    f" {len(self.density)} densities or a function of redshift"
                )
            return prior, known[prior]
        widths = np.diff(self.edges)
        try:
            values = np.asarray(prior(self.centers) if callable(prior) else prior, dtype=float)
        except Exception as error:
            raise InputError(f"the prior gives no densities: {error}") from None
        if values.shape != self.density.shape:
            raise InputError(
                f"a prior has one density for each of the model's {len(self.density)} bins of"
                f" redshift ({self.edges[0]:g} to {self.edges[-1]:g}), this has shape"
                f" {values.shape}"
            )
        mass = values * widths
        if not np.all(np.isfinite(mass)) or np.any(mass < 0) or not mass.sum() > 0:
            raise InputError("a prior's densities must be finite, not negative, and not all zero")
        return "user", mass / mass.sum()

    def compute_temperature(self, has_errors: NDArray[np.bool_], mean_flux: Float) -> Float:
        """Return what divides the logits, (n,); ``mean_flux`` (n,) is positive."""
        reach = np.clip(np.log(mean_flux / self.typical_level), -_REACH, _REACH)
        slope = np.where(has_errors, *self.temperature_slope)
        return np.asarray(np.where(has_errors, *self.temperature) * np.exp(slope * reach))

    def spread_prior(
        self, prior: Float | MagnitudePrior, flux: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Return a resolved prior's probability of each bin, (m,) or (n, m)."""
        if isinstance(prior, MagnitudePrior):
            return prior.at(measure_rp_flux(flux), self.edges)
        return prior

    def compute_probability(
        self,
        logits: NDArray[np.floating],
        has_errors: NDArray[np.bool_],
        mean_flux: Float,
        prior: NDArray[np.floating],
    ) -> NDArray[np.floating]:
        """Probability of each bin, (n, m), from logits (n, m) and a prior's (m,) or (n, m).

        Of the type of the logits; ``has_errors`` and ``mean_flux`` as for `compute_temperature`.
        """
        temperature = self.compute_temperature(has_errors, mean_flux)
        with np.errstate(divide="ignore"):
            ratio = np.log(prior) - np.log(self.density)
        # In the network's own precision: twice as fast, and quantiles differ by 1e-7.
        scaled = logits * (1.0 / temperature).astype(logits.dtype)[:, None]
        scaled += ratio.astype(logits.dtype)
        scaled -= scaled.max(axis=1, keepdims=True)
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=1, keepdims=True)
        return scaled

    def replace_flat(
        self, shape: NDArray[np.floating], prior: NDArray[np.floating]
    ) -> NDArray[np.floating]:
        """Put a prior, (m,) or (n, m), none of it 0, in the flat one's place, by which shape is."""
        probability = shape * prior.astype(shape.dtype, copy=False)
        probability /= np.diff(self.edges).astype(shape.dtype)
        probability /= probability.sum(axis=1, keepdims=True)
        return probability

    def to_json(self) -> bytes:
        """Write all numbers with every digit."""

        def plain(value: Any) -> Any:
            return value.tolist() if isinstance(value, np.ndarray) else value.to_dict()

        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(content, default=plain).encode()


def parse_bins(data: bytes, name: str) -> RedshiftBins:
    """Read what `RedshiftBins.to_json` wrote; ``name`` is for the messages.

    Raises `ModelError` if it is not such a file.
    """
    try:
        content: Any = json.loads(data)
        bins = RedshiftBins(
            edges=np.asarray(content["edges"], dtype=np.float64),
            density=np.asarray(content["density"], dtype=np.float64),
            priors={
                str(key): MagnitudePrior.from_dict(values)
                if isinstance(values, Mapping)
                else np.asarray(values, dtype=np.float64)
                for key, values in content["priors"].items()
            },
            default_prior=str(content["default_prior"]),
            temperature=_take_pair(content["temperature"]),
            temperature_slope=_take_pair(content["temperature_slope"]),
            typical_level=float(content["typical_level"]),
            low_signal=float(content["low_signal"]),
            galaxy_threshold=None
            if content["galaxy_threshold"] is None
            else float(content["galaxy_threshold"]),
            conflict_threshold=float(content["conflict_threshold"]),
            blind_to_flux=bool(content["blind_to_flux"]),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ModelError(f"{name}: not a file of redshift bins") from None
    m = bins.density.size
    numbers = np.array([*bins.temperature, *bins.temperature_slope, bins.typical_level])
    plain = [v for v in bins.priors.values() if not isinstance(v, MagnitudePrior)]
    arrays = [bins.edges, bins.density, *plain, numbers]
    if (
        not all(np.all(np.isfinite(array)) for array in arrays)
        or bins.edges.shape != (m + 1,)
        or m < 2
        or np.any(np.diff(bins.edges) <= 0)
        or np.any(bins.density <= 0)
        or any(values.shape != (m,) or np.any(values < 0) for values in plain)
        or min(*bins.temperature, bins.typical_level) <= 0
    ):
        raise ModelError(f"{name}: unusable redshift bins")
    try:
        bins.resolve_prior()
    except InputError as error:
        raise ModelError(f"{name}: {error}") from None
    return bins


def _take_pair(values: Any) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def smooth_density(redshift: Float, edges: Float) -> Float:
    """Probability of each bin of a sample's redshifts, shape (m,), smoothed over a bin or two.

    Of a small sample over more: half of Silverman's (1986) width. No bin is
    empty: a thousandth of the sample is spread evenly.
    """
    from scipy.ndimage import gaussian_filter1d

    counts = np.histogram(redshift, edges)[0].astype(float)
    widths = np.diff(edges)
    spread = 1.0
    if 1 < len(redshift) < _SMALL:
        quartiles = np.diff(np.quantile(redshift, [0.25, 0.75]))[0] / 1.34
        silverman = 0.9 * min(float(np.std(redshift)), float(quartiles)) * len(redshift) ** -0.2
        spread = max(spread, 0.5 * silverman / float(widths.mean()))
    smooth = gaussian_filter1d(counts, spread, mode="nearest")
    smooth = 0.999 * smooth / smooth.sum() + 0.001 * widths / widths.sum()
    return smooth / smooth.sum()


def compute_quantiles(probability: NDArray[np.floating], edges: Float, levels: ArrayLike) -> Float:
    """Quantiles (k, n) of distributions (n, m) that are even within bins of edges (m + 1,).

    Rows of ``probability`` add to 1; ``levels`` (k,) are between 0 and 1.
    """
    cumulative = np.cumsum(probability, axis=1)
    last = probability.shape[1] - 1
    rows = np.arange(len(probability))
    quantiles = []
    for level in np.atleast_1d(np.asarray(levels, dtype=float)):
        cell = (cumulative >= level).argmax(axis=1)
        cell[cumulative[:, last] < level] = last  # by rounding
        inside = probability[rows, cell].astype(np.float64)
        before = cumulative[rows, cell] - inside
        part = np.clip((level - before) / np.where(inside > 0, inside, 1.0), 0.0, 1.0)
        quantiles.append(edges[cell] + part * (edges[cell + 1] - edges[cell]))
    return np.array(quantiles).reshape(-1, len(probability))
