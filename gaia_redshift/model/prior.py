"""Magnitude priors: what a galaxy's brightness says of its redshift, kept apart from its spectrum.

As in photometric redshifts (Benitez 2000, ApJ 536, 571): the network tells p(z | shape of the
spectrum), having been trained on galaxies whose flux says nothing of their redshift; the prior is
p(z | RP flux) of the survey at hand, and the two are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.grid import N_BP
from gaia_redshift.metrics.points import find_bins

__all__ = ["KEPT_RP", "MagnitudePrior", "measure_rp_flux"]

Float = NDArray[np.float64]

KEPT_RP = 0.87
"""Part of a galaxy's photometric RP flux that its 106 kept samples hold: 0.84 to 0.89 in simulated
galaxies (``python -m research.simulator.report``), 0.74 to 0.90 in real ones."""
_NODES = 24
_SMALLEST = 50
_WIDTH = 0.06
"""Least width in log10 flux over which galaxies are averaged."""
_FLOOR = 0.002
"""Part of the prior that is spread evenly: no sample knows all galaxies."""


def measure_rp_flux(flux: NDArray[np.floating]) -> Float:
    """Photometric RP flux (n,), e-/s, as far as vectors (n, 186) tell it; at least a little."""
    return np.maximum(np.sum(flux[:, N_BP:], axis=1, dtype=np.float64) / KEPT_RP, 1.0)


@dataclass(frozen=True, eq=False)
class MagnitudePrior:
    """Redshift distributions of galaxies of a given brightness.

    Parameters
    ----------
    log_flux : array-like, shape (k,)
        Rising log10 of the photometric RP flux (e-/s; magnitudes: 24.7479 - 2.5 log10 flux).
        Between them distributions are interpolated, beyond them those of the ends hold.
    edges : array-like, shape (m + 1,)
        Rising edges of redshift bins.
    probability : array-like, shape (k, m)
        Probability of each bin; rows are normalised.

    Raises
    ------
    InputError
        If shapes disagree or a number is not usable.
    """

    log_flux: Float
    edges: Float
    probability: Float

    def __post_init__(self) -> None:
        arrays = [
            np.asarray(v, dtype=np.float64) for v in (self.log_flux, self.edges, self.probability)
        ]
        log_flux, edges, probability = arrays
        if (
            log_flux.ndim != 1
            or edges.ndim != 1
            or probability.shape != (log_flux.size, edges.size - 1)
            or not all(np.all(np.isfinite(v)) for v in arrays)
            or np.any(np.diff(log_flux) <= 0)
            or np.any(np.diff(edges) <= 0)
            or np.any(probability < 0)
            or not np.all(probability.sum(axis=1) > 0)
        ):
            raise InputError(
                "a magnitude prior needs k rising log fluxes, m + 1 rising redshifts and (k, m)"
                " probabilities, finite and not negative"
            )
        probability = probability / probability.sum(axis=1, keepdims=True)
        for name, value in zip(
            ("log_flux", "edges", "probability"), (log_flux, edges, probability), strict=True
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_sample(
        cls,
        redshift: ArrayLike,
        rp_flux: ArrayLike,
        *,
        edges: ArrayLike | None = None,
    ) -> MagnitudePrior:
        """Measure the prior on galaxies of a survey with known redshifts.

        Parameters
        ----------
        redshift : array-like, shape (n,)
        rp_flux : array-like, shape (n,), e-/s
            ``phot_rp_mean_flux`` of Gaia, or 10^(0.4 (24.7479 - phot_rp_mean_mag)).
        edges : array-like, shape (m + 1,), optional
            Of the bins of redshift; by default 150 bins from 0 to 0.6.

        Returns
        -------
        MagnitudePrior

        Raises
        ------
        InputError
            If there are fewer than 50 galaxies with both.

        Notes
        -----
        Around each of up to 24 fluxes the galaxies are weighted by a Gaussian in log flux, at least
        0.06 dex wide and wide enough for a fortieth of the sample, and their redshifts smoothed
        over Silverman's (1986) width; 0.2 % are spread evenly over all redshifts.
        """
        z: Float = np.asarray(np.ma.filled(np.ma.asarray(redshift, dtype=float), np.nan)).ravel()
        flux: Float = np.asarray(np.ma.filled(np.ma.asarray(rp_flux, dtype=float), np.nan)).ravel()
        if z.shape != flux.shape:
            raise InputError(f"{z.size} redshifts for {flux.size} RP fluxes")
        borders = np.linspace(0.0, 0.6, 151) if edges is None else np.asarray(edges, dtype=float)
        good = np.isfinite(z) & (flux > 0) & (z >= borders[0]) & (z <= borders[-1])
        z, level = z[good], np.log10(flux[good])
        if z.size < _SMALLEST:
            raise InputError(
                f"a magnitude prior needs at least {_SMALLEST} galaxies with redshifts from"
                f" {borders[0]:g} to {borders[-1]:g} and RP fluxes, these are {z.size}"
            )
        order = np.argsort(level)
        z, level = z[order], level[order]
        number = int(np.clip(z.size // 20, 4, _NODES))
        ends = np.quantile(level, [0.005, 0.995])
        nodes = np.unique(np.round(np.linspace(float(ends[0]), float(ends[1]), number), 4))
        cell = find_bins(z, borders)
        nearest = min(z.size - 1, max(20, z.size // 40))
        rows = []
        for node in nodes:
            distance = np.abs(level - node)
            width = max(_WIDTH, float(np.partition(distance, nearest)[nearest]))
            weight = np.exp(-0.5 * (distance / width) ** 2)
            rows.append(_smooth(z, weight, cell, borders))
        return cls(nodes.astype(np.float64), borders, np.array(rows))

    def at(self, rp_flux: Float, edges: Float) -> NDArray[np.float32]:
        """Return the probability of each of other bins (n, m) at RP fluxes (n,), e-/s."""
        rows, steps = _tabulate(self, np.asarray(edges, dtype=np.float64).tobytes())
        place = np.interp(
            np.log10(rp_flux), self.log_flux, np.arange(self.log_flux.size, dtype=float)
        )
        lower = np.minimum(place.astype(np.intp), max(self.log_flux.size - 2, 0))
        found = steps[lower]
        found *= (place - lower).astype(np.float32)[:, None]
        found += rows[lower]
        return found

    def rebin(self, edges: Float) -> Float:
        """Return the probabilities (k, m) in other bins of redshift; none is exactly 0."""
        if edges.shape == self.edges.shape and np.array_equal(edges, self.edges):
            found = self.probability
        else:
            rising = np.concatenate(
                [np.zeros((len(self.probability), 1)), np.cumsum(self.probability, axis=1)], axis=1
            )
            found = np.diff([np.interp(edges, self.edges, row) for row in rising], axis=1)
        widths = np.diff(edges) / (edges[-1] - edges[0])
        found = (1 - _FLOOR) * found + _FLOOR * widths
        return found / found.sum(axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it, to six digits."""
        return {
            "log_flux": self.log_flux.tolist(),
            "edges": [float(self.edges[0]), float(self.edges[-1]), self.edges.size]
            if np.allclose(np.diff(self.edges, 2), 0, atol=1e-12)
            else self.edges.tolist(),
            "probability": [[float(f"{v:.4g}") for v in row] for row in self.probability],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> MagnitudePrior:
        """Read what `to_dict` returned."""
        edges = content["edges"]
        if len(edges) == 3 and isinstance(edges[2], int):
            edges = np.linspace(edges[0], edges[1], edges[2])
        return cls(content["log_flux"], edges, content["probability"])


@lru_cache(maxsize=16)
def _tabulate(
    prior: MagnitudePrior, edges: bytes
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (k, m) in bins of these edges, and from each flux the step to the next."""
    rows = prior.rebin(np.frombuffer(edges))
    steps = np.diff(rows, axis=0, append=rows[-1:])
    return rows.astype(np.float32), steps.astype(np.float32)


def _smooth(z: Float, weight: Float, cell: NDArray[np.intp], edges: Float) -> Float:
    """Weighted distribution (m,) of redshifts over bins, smoothed over Silverman's width."""
    from scipy.ndimage import gaussian_filter1d

    counts = np.bincount(cell, weight, edges.size - 1)
    mean = np.average(z, weights=weight)
    spread = np.sqrt(np.average((z - mean) ** 2, weights=weight))
    effective = weight.sum() ** 2 / (weight**2).sum()
    width = 0.7 * spread * effective**-0.2 / np.diff(edges).mean()
    return gaussian_filter1d(counts, max(1.0, float(width)), mode="nearest")
