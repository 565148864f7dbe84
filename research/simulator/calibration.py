"""Fit the survey's parameters to real galaxies: ``python -m research.simulator.calibration``.

What is known of real galaxies: photometry per redshift bin (`research.simulator.photometry`)
and mean spectra of 1,000 galaxies in each redshift bin of 0.1 (Kiraleos 2023). Brightness and its
scatter follow from photometry alone. Fitted to photometric colours, their scatter and the mean
spectra together are quantities with a physical meaning, at six redshifts: the shares of galaxy
types, the colours within a type, radius, Sersic index and compact part of the light profile; and,
for all redshifts together, the scatter of colour, the background taken off and the end points of
the sampling grid. A prior holds them near what SDSS targets and fits of galaxies by Gaia are. There
is no correction per sample; what remains is reported.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gaia_redshift.grid import N_BP, PLAUSIBLE_END_POINTS_NM, SamplingGrid
from gaia_redshift.sampling.bases import sample_pseudo_wavelengths, sample_widths
from gaia_redshift.simulate.galaxies import load_library
from gaia_redshift.simulate.instrument import BANDS, N_BASES, load_instrument
from gaia_redshift.simulate.observation import point_source_coefficients
from gaia_redshift.simulate.profile import (
    PIXEL_MAS,
    interpolate_weights,
    load_profile_maps,
    take_background,
)
from gaia_redshift.simulate.redshifts import QUIESCENT, Survey, universe_age
from gaia_redshift.simulate.survey import (
    SurveyParameters,
    interpolate_flux,
    load_parameters,
    spread_brightness,
)
from research.simulator.photometry import PERCENTILES, half_width, load_photometry

__all__ = ["BIN_EDGES", "compare_means", "fit_survey", "load_real_means"]

Float = NDArray[np.float64]

BIN_EDGES = np.arange(7) * 0.1
"""Redshift bins of the real mean spectra."""
_KEPT_RP = 0.86
"""Part of the RP flux in the kept samples, nearly the same for all galaxies."""
FLUX_FLOOR = 0.5
"""Samples with a real mean below this (e-/s) are not fitted: reading errors of 0.01 dominate."""
SHARES = {"bp": (0.51, 0.66), "rp": (0.74, 0.90)}
"""Part of the photometric flux that the kept samples of real galaxies hold: from the mean spectra
and the mean photometric fluxes of all, or of those that are Gaia's galaxy candidates."""

_NODES = np.arange(0.0125, 0.6, 0.025)
_PER_TYPE = 900
# Weights of the residuals: 1/sigma of the shape (relative), the BP/RP ratio of the kept samples and
# the level, per bin. Above z = 0.4 few galaxies stand behind the real means.
_SHAPE_SIGMA = np.array([0.01, 0.01, 0.01, 0.015, 0.03, 0.04])
_RATIO_SIGMA = np.array([0.01, 0.01, 0.01, 0.0085, 0.05, 0.1])
_LEVEL_SIGMA = np.array([0.04, 0.04, 0.04, 0.04, 0.2, 0.2])
_ERROR_CORRELATION = 0.4
_COLOUR_SIGMA, _WIDTH_SIGMA, _KEPT_SIGMA = 0.004, 0.002, 0.004
_COLOUR_BEND, _SCATTER_BEND = 0.04, 0.5
# Prior: ln of shares within this of the starting values; and so on for the others.
_PRIOR = {
    "shares": 0.5, "colour": 0.05, "scatter": 0.3, "active": [0.02, 0.2], "radius": 0.2,
    "index": 0.7, "point": 0.05, "background": 0.3, "grid": 1.5,
}  # fmt: skip


def load_real_means() -> Float:
    """Return the real mean spectra of Kiraleos (2023), shape (6, 186), e-/s."""
    path = files("research") / "data" / "real_mean_spectra.csv"
    with path.open(encoding="utf-8") as handle:
        return np.loadtxt(handle, delimiter=",", skiprows=2)[:, 1:].T


@dataclass(frozen=True)
class MeanComparison:
    """Simulated against real mean spectra, bin by bin.

    Parameters
    ----------
    level : ndarray, shape (6,)
        Simulated over real, mean over the samples above `FLUX_FLOOR`.
    rms : ndarray, shape (6,)
        Scatter of the ratio after dividing by its mean.
    colour : ndarray, shape (6,)
        BP/RP flux ratio, simulated over real.
    ratio : ndarray, shape (6, 186)
        The residual curve: simulated over real over level; NaN where below the floor.
    """

    level: Float
    rms: Float
    colour: Float
    ratio: Float

    def __str__(self) -> str:
        lines = ["bin        level   rms %   BP/RP"]
        for i in range(len(self.level)):
            lines.append(
                f"{BIN_EDGES[i]:.1f}-{BIN_EDGES[i + 1]:.1f}   {self.level[i]:7.3f} "
                f"{100 * self.rms[i]:7.2f} {self.colour[i]:7.3f}"
            )
        return "\n".join(lines)


def compare_means(means: Float, real: Float | None = None) -> MeanComparison:
    """Compare mean spectra with the real ones.

    Parameters
    ----------
    means : ndarray, shape (6, 186), e-/s
    real : ndarray, shape (6, 186), optional

    Returns
    -------
    MeanComparison
    """
    real = load_real_means() if real is None else real
    ratio = np.where(real > FLUX_FLOOR, means / real, np.nan)
    level = np.nanmean(ratio, axis=1)
    ratio = ratio / level[:, None]

    def colour(v: Float) -> Float:
        return v[:, :N_BP].sum(axis=1) / v[:, N_BP:].sum(axis=1)

    return MeanComparison(
        level=level,
        rms=np.sqrt(np.nanmean((ratio - 1) ** 2, axis=1)),
        colour=colour(means) / colour(real),
        ratio=ratio,
    )


class _MeanModel:
    """Expected mean spectra and colours as a function of the survey's parameters, in milliseconds.

    Point-source coefficients of galaxies of every type are worked out once on redshift nodes;
    weights by share and colour, smearing and level then act linearly on them.
    """

    def __init__(self, start: SurveyParameters, seed: int) -> None:
        library = load_library()
        rng = np.random.default_rng(seed)
        self.start = start
        self.names = sorted(start.type_fractions)
        self.quiescent = np.array([name in QUIESCENT for name in self.names])
        shape = (len(self.names), _NODES.size, _PER_TYPE)
        index = np.empty(shape, dtype=np.intp)
        for t, name in enumerate(self.names):
            for j, limit in enumerate(np.interp(_NODES, *universe_age())):
                rows = np.flatnonzero(
                    (library.types == name) & (library.parameters["age"] <= limit)
                )
                # Evenly through the dust: far less scatter than picks at random.
                rows = rows[np.argsort(library.parameters["av"][rows], kind="stable")]
                place = (np.arange(_PER_TYPE) + rng.uniform()) * (rows.size / _PER_TYPE)
                index[t, j] = rows[np.minimum(place.astype(int), rows.size - 1)]
        jitter = rng.uniform(-0.0125, 0.0125, shape)
        truth: dict[str, NDArray[Any]] = {
            "galaxy": index.ravel(),
            "redshift_true": (_NODES[None, :, None] + jitter).ravel(),
            "ebv": np.zeros(index.size),
        }
        instrument = load_instrument()
        self.integral = {band: getattr(instrument, band).integral for band in BANDS}
        plain = point_source_coefficients(truth, start)
        # The RP flux is 1.
        self.colour = np.log10(np.maximum(plain["bp"] @ self.integral["bp"], 1e-9)).reshape(shape)
        truth["ebv"] = rng.lognormal(
            np.log(start.galactic_extinction_ebv_median),
            start.galactic_extinction_ebv_scatter,
            index.size,
        )
        point = point_source_coefficients(truth, start)
        self.point = {
            band: point[band].reshape(*shape, N_BASES).astype(np.float32) for band in BANDS
        }
        self.seen = np.log10(np.maximum(point["bp"] @ self.integral["bp"], 1e-9)).reshape(shape)
        quantile = Survey.resolve("sdss").quantile(np.linspace(0, 1, 200_001)[1:])
        share = np.histogram(quantile, np.append(_NODES - 0.0125, 0.6))[0].astype(float)
        self.bin = (_NODES / 0.1).astype(int)
        self.share = share
        self.flux = self._mean_flux()
        self.maps = load_profile_maps()
        normal = ndtri((np.arange(7) + 0.5) / 7)
        self.normal = np.array(np.meshgrid(normal, normal)).reshape(2, -1)
        self.means_of_types: tuple[Float, Any] | None = None
        self.photometry = load_photometry()
        # Real galaxies of a bin have its own redshifts; here those of the survey, evenly enough.
        self.real_colour = np.array([row["log_bp_rp"][2] for row in self.photometry])
        self.real_width = np.array([half_width(row["log_bp_rp"]) for row in self.photometry])

    def _mean_flux(self) -> Float:
        """Mean photometric RP flux at the nodes."""
        u = (np.arange(400) + 0.5) / 400
        exponential, normal = -np.log1p(-u), ndtri(u)
        e, g = (v.ravel() for v in np.meshgrid(exponential, normal))
        log = [spread_brightness(np.full(e.size, z), e, g, self.start) for z in _NODES]
        return interpolate_flux(_NODES, self.start) * np.mean(10 ** np.array(log), axis=1)

    def design(self, grid: SamplingGrid) -> dict[str, Float]:
        out = {}
        widths = sample_widths(grid)
        for band, where in sample_pseudo_wavelengths(grid).items():
            part = getattr(load_instrument(), band)
            bases = np.array([np.interp(where, part.position, row) for row in part.bases])
            out[band] = bases * widths[band]
        return out

    def weigh(self, p: _Vector) -> Float:
        """Weights within each type and node, shape (types, nodes, galaxies), sum 1."""
        knots = self.start.colour_redshift_knots
        centre = np.interp(_NODES, knots, p.colour)[:, None]
        sigma = np.interp(_NODES, knots, np.exp(p.scatter))[:, None]
        weights = np.empty(self.colour.shape)
        for t, quiescent in enumerate(self.quiescent):
            away = (self.colour[t] - centre) / sigma
            if not quiescent:
                away = (away - p.active[0] / sigma) / np.exp(p.active[1])
            weights[t] = np.exp(-0.5 * np.minimum(away**2, 200.0))
        return weights / weights.sum(axis=2, keepdims=True)

    def average(self, p: _Vector) -> tuple[dict[str, Float], Float]:
        """Mean point-source coefficients (types, nodes, 55), weighted by flux, and the weights."""
        key = np.concatenate([p.colour, p.scatter, p.active])
        if self.means_of_types is None or not np.array_equal(self.means_of_types[0], key):
            weights = self.weigh(p)
            middle = (weights * self.colour).sum(axis=2, keepdims=True)
            slope = self.start.brightness_colour_slope
            bright = weights * 10 ** (slope * (self.colour - middle))
            bright = (bright / bright.sum(axis=2, keepdims=True)).astype(np.float32)
            means = {
                band: np.matmul(bright[:, :, None], self.point[band])[:, :, 0].astype(float)
                for band in BANDS
            }
            self.means_of_types = (key, (means, weights))
        return self.means_of_types[1]

    def smear(self, p: _Vector, coefficients: dict[str, Float], active: bool) -> dict[str, Float]:
        """Mean of smeared coefficients (nodes, 55) over the profiles, to an RP flux of 1."""
        s = self.start
        first, second = self.normal
        r = s.profile_index_correlation
        median = s.at(_NODES, np.exp(p.radius))[:, None]
        radius = median * np.exp(
            s.profile_radius_scatter * first + s.profile_active_radius * active
        )
        radius = radius * np.sqrt(1 - s.profile_ellipticity[0]) / PIXEL_MAS
        index = s.at(_NODES, p.index)[:, None] + s.profile_active_index * active
        index = index + s.profile_index_scatter * (r * first + np.sqrt(1 - r**2) * second)
        rungs = interpolate_weights(self.maps, radius.ravel(), np.clip(index, 1.0, 8.0).ravel())
        rungs = rungs.reshape(*radius.shape, -1)  # (nodes, profiles, rank)
        point = s.at(_NODES, p.point)[:, None]
        out = {}
        level = None
        for band in ("rp", "bp"):
            c = coefficients[band]
            parts = np.einsum("jb,rbc->jrc", c, getattr(self.maps, band))
            spread = np.einsum("jqr,jrc->jqc", rungs, parts)
            spread = point[:, :, None] * c[:, None, :] + (1 - point[:, :, None]) * spread
            spread = take_background(spread, p.background, band)
            if level is None:
                level = 1.0 / (spread @ self.integral["rp"])
            out[band] = (spread * level[:, :, None]).mean(axis=1)
        return out

    def expect(self, p: _Vector) -> tuple[Float, Float, Float, dict[str, Float]]:
        """Expected means (6, 186), and per bin of photometry the median and width of the colour.

        And the kept samples' part of the flux in each band, for the first four bins of the means.
        """
        knots = self.start.redshift_knots
        shares = np.array([np.interp(_NODES, knots, row) for row in p.shares])
        shares /= shares.sum(axis=0)
        means, weights = self.average(p)
        design = self.design(p.grid)
        total = dict.fromkeys(BANDS, 0.0)
        moved = np.zeros((2, _NODES.size))
        for active in (False, True):
            rows = self.quiescent != active
            part = shares[rows].sum(axis=0)
            mean = {
                band: np.einsum("tj,tjb->jb", shares[rows], means[band][rows]) / part[:, None]
                for band in BANDS
            }
            smeared = self.smear(p, mean, active)
            before = np.log10(
                (mean["bp"] @ self.integral["bp"]) / (mean["rp"] @ self.integral["rp"])
            )
            after = np.log10(smeared["bp"] @ self.integral["bp"])
            moved[int(active)] = after - before
            for band in BANDS:
                total[band] = total[band] + part[:, None] * smeared[band]
        weight = (self.flux * self.share)[:, None]
        spectra, kept = [], {}
        for band in BANDS:
            flux = (total[band] @ design[band]) * weight
            whole = (total[band] @ self.integral[band]) * weight[:, 0]
            galaxies = np.array([self.share[self.bin == b].sum() for b in range(6)])
            binned = np.array([flux[self.bin == b].sum(axis=0) for b in range(6)])
            spectra.append(binned / galaxies[:, None])
            all_flux = np.array([whole[self.bin == b].sum() for b in range(4)])
            kept[band] = binned[:4].sum(axis=1) / all_flux
        median, width = self._colours(shares, weights, moved)
        return np.concatenate(spectra, axis=1), median, width, kept

    def _colours(self, shares: Float, weights: Float, moved: Float) -> tuple[Float, Float]:
        """Median and half the 16-84 % range of log10(BP/RP), with real measurement errors."""
        edges = np.arange(-1.2, 0.6, 0.004)
        centre = 0.5 * (edges[1:] + edges[:-1])
        cumulative = np.zeros((_NODES.size, edges.size))
        for t, quiescent in enumerate(self.quiescent):
            for j in range(_NODES.size):
                share = np.histogram(self.seen[t, j], edges, weights=weights[t, j])[0]
                rising = np.concatenate([[0.0], np.cumsum(share)])
                place = edges - moved[0 if quiescent else 1, j]
                cumulative[j] += shares[t, j] * np.interp(place, edges, rising)
        medians, widths = [], []
        for row in self.photometry:
            here = (row["z_low"] < _NODES) & (row["z_high"] > _NODES)
            part = (cumulative[here] * self.share[here, None]).sum(axis=0) / self.share[here].sum()
            density = np.diff(part)
            bp, rp = np.array(row["bp_error"]), np.array(row["rp_error"])
            # Scan angles move both bands alike, the background each by itself.
            error = np.sqrt(bp**2 + rp**2 - bp * rp * _ERROR_CORRELATION * 2) / np.log(10)
            kernel = np.mean(
                [np.exp(-0.5 * ((centre - centre.mean()) / e) ** 2) / e for e in error], axis=0
            )
            density = np.convolve(density, kernel / kernel.sum(), mode="same")
            low, middle, high = np.interp(
                np.array([0.16, 0.5, 0.84]) * density.sum(), np.cumsum(density), edges[1:]
            )
            medians.append(middle)
            widths.append(0.5 * (high - low))
        return np.array(medians), np.array(widths)


@dataclass
class _Vector:
    """The fitted quantities, and how they map to the optimiser's vector."""

    shares: Float
    colour: Float
    scatter: Float
    active: Float
    radius: Float
    index: Float
    point: Float
    background: float
    grid: SamplingGrid

    @classmethod
    def unpack(cls, x: Float, start: SurveyParameters) -> _Vector:
        k, m = start.redshift_knots.size, start.colour_redshift_knots.size
        n_types = len(start.type_fractions)
        sizes = np.cumsum([n_types * k, m, m, 2, k, k, k, 1])
        shares, colour, scatter, active, radius, index, point, background, ends = np.split(x, sizes)
        return cls(
            shares=np.exp(shares.reshape(n_types, k)),
            colour=colour,
            scatter=scatter,
            active=active,
            radius=radius,
            index=index,
            point=point,
            background=float(background[0]),
            grid=SamplingGrid(bp=tuple(ends[:2]), rp=tuple(ends[2:])),
        )

    @staticmethod
    def pack(start: SurveyParameters, names: list[str]) -> tuple[Float, Float, Float, Float]:
        """Return the vector of the starting values, the prior's sigma, and the bounds."""
        shares = np.array([start.type_fractions[name] for name in names])
        parts = {
            "shares": np.log(shares).ravel(),
            "colour": start.colour_median,
            "scatter": np.log(start.colour_scatter),
            "active": [start.colour_active_offset, np.log(start.colour_active_factor)],
            "radius": np.log(start.profile_radius),
            "index": start.profile_index,
            "point": start.profile_point_fraction,
            "background": [start.profile_background_taken],
            "grid": [*start.grid_end_points["bp"], *start.grid_end_points["rp"]],
        }
        bounds: dict[str, Any] = {
            "index": (1.5, 7.5),
            "point": (0.002, 0.6),
            "background": (0.0, 1.0),
            "grid": np.array([ends for b in BANDS for ends in PLAUSIBLE_END_POINTS_NM[b]]).T,
        }
        vectors: list[list[Float]] = [[], [], [], []]
        for name, values in parts.items():
            value = np.asarray(values, dtype=float)
            low, high = bounds.get(name, (-np.inf, np.inf))
            for vector, part in zip(vectors, (value, _PRIOR[name], low, high), strict=True):
                vector.append(np.broadcast_to(part, value.shape).astype(float))
        return tuple(np.concatenate(v) for v in vectors)  # type: ignore[return-value]


@dataclass(frozen=True)
class Fit:
    """What `fit_survey` found.

    Parameters
    ----------
    content : dict
        The new content of ``survey.json``.
    means : MeanComparison
        Expected against real mean spectra.
    colour, width : ndarray, shape (7,)
        Expected less real median of log10(BP/RP), and expected over real half 16-84 % range, in
        the bins of photometry.
    kept : dict
        Part of the flux in the kept samples of each band, in the first four bins of the means.
    """

    content: dict[str, Any]
    means: MeanComparison
    colour: Float
    width: Float
    kept: dict[str, Float]

    def __str__(self) -> str:
        lines = [str(self.means), "photometric bin: colour - real (dex), width / real"]
        for row, colour, width in zip(load_photometry(), self.colour, self.width, strict=True):
            lines.append(f"{row['z_low']:.2f}-{row['z_high']:.2f}  {colour:+.4f}  {width:.3f}")
        lines += [f"kept part of {band.upper()}: {np.round(self.kept[band], 3)}" for band in BANDS]
        return "\n".join(lines)


def fit_brightness(start: SurveyParameters) -> dict[str, Any]:
    """Fit median, scatter and tail of the RP flux to real photometry, and return the new content.

    The level of the real mean spectra (another sample of galaxies) has a say as well. Redshifts
    within a bin are those of the survey "sdss". Knots beyond the last bin stay, moved along with
    the last one fitted.
    """
    from scipy.optimize import least_squares

    rows = load_photometry()
    n = len(rows)
    quantile = Survey.resolve("sdss").quantile(np.linspace(0, 1, 40_001)[1:])
    rng = np.random.default_rng(1)
    sets = []
    for row in rows:
        inside = quantile[(quantile >= row["z_low"]) & (quantile < row["z_high"])]
        z = rng.choice(inside, 4000)
        sets.append((z, rng.standard_exponential(4000), rng.standard_normal(4000)))
    sums = load_real_means()[:, N_BP:].sum(axis=1) / _KEPT_RP
    wide = []
    for low_z in BIN_EDGES[:4]:
        inside = quantile[(quantile >= low_z) & (quantile < low_z + 0.1)]
        z = rng.choice(inside, 4000)
        wide.append((z, rng.standard_exponential(4000), rng.standard_normal(4000)))
    level, scatter, tail = (
        start.brightness_log_rp_flux,
        start.brightness_scatter,
        start.brightness_tail,
    )

    def build(x: Float) -> SurveyParameters:
        moved = np.concatenate([x[:n], level[n:] + x[n - 1] - level[n - 1]])
        return replace(
            start,
            brightness_log_rp_flux=moved,
            brightness_scatter=np.concatenate([np.exp(x[n : 2 * n]), scatter[n:]]),
            brightness_tail=np.concatenate([x[2 * n :], tail[n:]]),
        )

    def residuals(x: Float) -> Float:
        p = build(x)
        found = []
        for row, (z, exponential, normal) in zip(rows, sets, strict=True):
            log = np.log10(interpolate_flux(z, p)) + spread_brightness(z, exponential, normal, p)
            q, real = np.percentile(log, PERCENTILES), np.array(row["log_rp"])
            found += [(q[2] - real[2]) / 0.01, (half_width(q) / half_width(real) - 1) / 0.03]
            found += list((q[[0, 4]] - real[[0, 4]]) / 0.2 / half_width(real))
            found.append(np.log10(np.mean(10**log) / row["mean_rp"]) / 0.02)
        for total, (z, exponential, normal) in zip(sums[:4], wide, strict=True):
            log = np.log10(interpolate_flux(z, p)) + spread_brightness(z, exponential, normal, p)
            found.append(np.log10(np.mean(10**log) / total) / 0.01)
        prior = (x[2 * n :] - tail[:n]) / 0.5
        return np.concatenate([found, prior])

    x = np.concatenate([level[:n], np.log(scatter[:n]), np.clip(tail[:n], 0.01, 0.94)])
    low = np.concatenate([np.full(2 * n, -np.inf), np.zeros(n)])
    high = np.concatenate([np.full(2 * n, np.inf), np.full(n, 0.95)])
    best = build(least_squares(residuals, x, bounds=(low, high), diff_step=1e-3).x)
    content: dict[str, Any] = json.loads(json.dumps(start.content))
    for key in ("log_rp_flux", "scatter", "tail"):
        values = getattr(best, f"brightness_{key}")
        content["brightness"][key]["value"] = np.round(values, 4).tolist()
    return content


def fit_survey(
    start: SurveyParameters,
    *,
    seed: int = 1,
    fix_grid: bool = False,
    prior: SurveyParameters | None = None,
    evaluations: int = 40,
) -> Fit:
    """Fit population, colours, profile and grid to real photometry and real mean spectra.

    Parameters
    ----------
    start : SurveyParameters
        Starting values.
    seed : int
        Draws the galaxies behind the expected means.
    fix_grid : bool
        Keep the grid's end points.
    prior : SurveyParameters, optional
        Centre of the prior; the starting values without it.
    evaluations : int
        Most steps of the optimiser.

    Returns
    -------
    Fit
    """
    from scipy.optimize import least_squares

    model = _MeanModel(start, seed)
    real = load_real_means()
    used = real > FLUX_FLOOR
    first, sigma, low, high = _Vector.pack(start, model.names)
    centre = _Vector.pack(prior or start, model.names)[0]
    if fix_grid:
        sigma[-4:] = 1e-3
    bounds = {band: np.array(SHARES[band]) for band in BANDS}

    def residuals(x: Float) -> Float:
        vector = _Vector.unpack(x, start)
        means, colour, width, kept = model.expect(vector)
        found = compare_means(means, real)
        shape = (found.ratio - 1) / _SHAPE_SIGMA[:, None]
        outside = [
            np.maximum(bounds[b][0] + 0.01 - kept[b], 0)
            + np.maximum(kept[b] - bounds[b][1] + 0.01, 0)
            for b in BANDS
        ]
        return np.concatenate(
            [
                shape[used] * 0.3,  # neighbouring samples are not independent
                3 * (found.colour - 1) / _RATIO_SIGMA,
                3 * (found.level - 1) / _LEVEL_SIGMA,
                3 * (colour - model.real_colour) / _COLOUR_SIGMA,
                1.5 * (width - model.real_width) / _WIDTH_SIGMA,
                np.concatenate(outside) / _KEPT_SIGMA,
                # Redshifts should not be told by bumps in how diverse galaxies are.
                np.diff(vector.colour, 2) / _COLOUR_BEND,
                np.diff(vector.scatter, 2) / _SCATTER_BEND,
                (x - centre) / sigma,
            ]
        )

    inside = np.clip(first, low + 1e-6, high - 1e-6)
    solution = least_squares(
        residuals,
        inside,
        bounds=(low, high),
        x_scale=sigma,
        max_nfev=evaluations,
        diff_step=1e-4,
        ftol=1e-4,
        verbose=2 if logging.getLogger(__name__).isEnabledFor(logging.DEBUG) else 0,
    )
    best = _Vector.unpack(solution.x, start)
    means, colour, width, kept = model.expect(best)
    return Fit(
        content=_describe(start, best, model.names),
        means=compare_means(means, real),
        colour=colour - model.real_colour,
        width=width / model.real_width,
        kept=kept,
    )


def _describe(start: SurveyParameters, best: _Vector, names: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(start.content))

    def put(value: Any, *keys: str) -> None:
        node = content
        for key in keys:
            node = node[key]
        node["value"] = value

    shares = best.shares / best.shares.sum(axis=0)
    put(
        {name: np.round(row, 4).tolist() for name, row in zip(names, shares, strict=True)},
        "type_fractions",
    )
    put(np.round(best.colour, 4).tolist(), "colour", "median")
    put(np.round(np.exp(best.scatter), 4).tolist(), "colour", "scatter")
    put(round(float(best.active[0]), 4), "colour", "active_offset")
    put(round(float(np.exp(best.active[1])), 4), "colour", "active_factor")
    put(np.round(np.exp(best.radius), 1).tolist(), "profile", "radius")
    put(np.round(best.index, 3).tolist(), "profile", "index")
    put(np.round(best.point, 4).tolist(), "profile", "point_fraction")
    put(round(best.background, 4), "profile", "background_taken")
    put(
        {b: [round(v, 2) for v in getattr(best.grid, b)] for b in BANDS},
        "grid_end_points",
    )
    return content


def main(argv: list[str] | None = None) -> int:
    """Command line of the fit."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.calibration", description=(__doc__ or "").strip()
    )
    parser.add_argument("-o", "--output", type=Path, help="write the fitted survey.json here")
    parser.add_argument("--start", type=Path, help="starting values and prior, a survey.json")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fix-grid", action="store_true", help="keep the grid's end points")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    log = logging.getLogger(__name__)
    start = load_parameters()
    if options.start:
        start = SurveyParameters.from_dict(json.loads(options.start.read_text(encoding="utf-8")))
    start = SurveyParameters.from_dict(fit_brightness(start))
    fit = fit_survey(start, seed=options.seed, fix_grid=options.fix_grid)
    log.info("%s", fit)
    log.info("grid (nm): %s", fit.content["grid_end_points"]["value"])
    text = json.dumps(fit.content, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    else:
        log.info("%s", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
