"""Fit the survey's parameters to real galaxies: ``python -m gaia_redshift.simulate.calibration``.

What is known of real galaxies' spectra: mean spectra of 1,000 galaxies in each redshift bin of 0.1
(Kiraleos 2023). Fitted to them are quantities with a physical meaning, at six redshifts: the shares
of galaxy types, the scale and compact part of the light profile, the brightness; and, for all
redshifts together, how dusty the galaxies are and the end points of the sampling grid. Shares and
dust are held near what SDSS targets are by a prior, for mean spectra alone cannot tell dust from
age. There is no correction per sample; what remains is reported.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from gaia_redshift.bases import sample_pseudo_wavelengths
from gaia_redshift.grid import N_BP, PLAUSIBLE_END_POINTS_NM, SamplingGrid
from gaia_redshift.simulate.galaxies import load_library
from gaia_redshift.simulate.generate import point_source_coefficients
from gaia_redshift.simulate.instrument import BANDS, N_BASES, load_instrument
from gaia_redshift.simulate.profile import SCALES, load_profile_maps
from gaia_redshift.simulate.survey import (
    QUIESCENT,
    Survey,
    SurveyParameters,
    load_parameters,
    mean_brightness,
    universe_age,
)

__all__ = ["BIN_EDGES", "compare_means", "fit_survey", "load_real_means"]

Float = NDArray[np.float64]

BIN_EDGES = np.arange(7) * 0.1
"""Redshift bins of the real mean spectra."""
FLUX_FLOOR = 0.5
"""Samples with a real mean below this (e-/s) are not fitted: reading errors of 0.01 dominate."""

_NODES = np.arange(0.0125, 0.6, 0.025)
_PER_TYPE = 1200
# Weights of the residuals: 1/sigma of the shape (relative), the BP/RP ratio and the level, per
# bin. Above z = 0.4 few galaxies stand behind the real means.
_SHAPE_SIGMA = np.array([0.01, 0.01, 0.01, 0.015, 0.03, 0.04])
_RATIO_SIGMA = np.array([0.01, 0.01, 0.01, 0.015, 0.05, 0.1])
_LEVEL_SIGMA = np.array([0.03, 0.03, 0.03, 0.03, 0.1, 0.1])
# Prior: ln of shares within this of the starting values; dust tilt, ln scale, compact part, grid.
_SHARE_SIGMA, _TILT_SIGMA, _SCALE_SIGMA, _POINT_SIGMA, _GRID_SIGMA = 0.5, 0.25, 0.5, 0.05, 1.5


def load_real_means() -> Float:
    """Return the real mean spectra of Kiraleos (2023), shape (6, 186), e-/s."""
    path = files("gaia_redshift") / "data" / "reference" / "real_mean_spectra.csv"
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
    """Expected mean spectra as a function of the survey's parameters, in milliseconds.

    Mean coefficients of every type are worked out once on redshift nodes; shares, dust tilt,
    smearing and level then act linearly on them.
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
            "ebv": rng.lognormal(np.log(start.ebv_median), start.ebv_scatter, index.size),
            "rp_flux": np.ones(index.size),
        }
        point = point_source_coefficients(truth, start)
        self.point = {band: point[band].reshape(*shape, N_BASES) for band in BANDS}
        self.av = library.parameters["av"][index]
        self._tilted: tuple[Float, dict[str, Float]] | None = None
        quantile = Survey.resolve("sdss").quantile(np.linspace(0, 1, 200_001)[1:])
        share = np.histogram(quantile, np.append(_NODES - 0.0125, 0.6))[0].astype(float)
        self.bin = (_NODES / 0.1).astype(int)
        self.share = share / np.bincount(self.bin, share)[self.bin]
        maps = load_profile_maps()
        identity = np.eye(N_BASES)[None]
        self.maps = {band: np.concatenate([identity, getattr(maps, band)]) for band in BANDS}

    def design(self, grid: SamplingGrid) -> dict[str, Float]:
        out = {}
        for band, where in sample_pseudo_wavelengths(grid).items():
            part = getattr(load_instrument(), band)
            out[band] = np.array([np.interp(where, part.position, row) for row in part.bases])
        return out

    def type_means(self, tilt: Float) -> dict[str, Float]:
        """Mean coefficients (types, nodes, 55) as points; kept until the dust tilt changes."""
        if self._tilted is None or not np.array_equal(self._tilted[0], tilt):
            of_type = np.where(self.quiescent, tilt[0], tilt[1])[:, None, None]
            weight = np.exp(of_type * self.av)
            weight /= weight.sum(axis=2, keepdims=True)
            means = {
                band: np.matmul(weight[:, :, None], self.point[band])[:, :, 0] for band in BANDS
            }
            self._tilted = (tilt.copy(), means)
        return self._tilted[1]

    def means(self, p: _Vector) -> Float:
        knots = self.start.redshift_knots
        shares = np.array([np.interp(_NODES, knots, row) for row in p.shares])
        shares /= shares.sum(axis=0)
        types = self.type_means(p.tilt)
        # Distribution over the ladder: compact part, then a log-normal in scale.
        rungs = _share_rungs(np.interp(_NODES, knots, p.scale), self.start.profile_scatter)
        compact = np.interp(_NODES, knots, p.point)[:, None]
        rungs = np.concatenate([compact, (1 - compact) * rungs], axis=1)
        level = mean_brightness(_NODES, self.start, p.flux) * self.share
        design = self.design(p.grid)
        bands = []
        for band in BANDS:
            c = np.einsum("tj,tjb->jb", shares, types[band])
            smear = np.tensordot(rungs, self.maps[band], axes=1)
            flux = (np.einsum("jb,jbc->jc", c, smear) @ design[band]) * level[:, None]
            bands.append(np.array([flux[self.bin == b].sum(axis=0) for b in range(6)]))
        return np.concatenate(bands, axis=1)


def _share_rungs(median: Float, scatter: float) -> Float:
    """Shares of the ladder's rungs, shape (n, rungs), under log-normal scales of these medians."""
    normal = ndtri((np.arange(100) + 0.5) / 100)
    place = np.interp(
        np.log(median)[:, None] + scatter * normal,
        np.log(SCALES),
        np.arange(SCALES.size, dtype=float),
    )
    # As `smear_coefficients` does: each scale is shared by the two rungs beside it.
    return np.maximum(1 - np.abs(place[:, :, None] - np.arange(SCALES.size)), 0).mean(axis=1)


@dataclass
class _Vector:
    """The fitted quantities, and how they map to the optimiser's vector."""

    shares: Float
    scale: Float
    point: Float
    flux: Float
    tilt: Float
    grid: SamplingGrid

    @classmethod
    def unpack(cls, x: Float, n_types: int, n_knots: int) -> _Vector:
        sizes = np.cumsum([n_types * n_knots, n_knots, n_knots, n_knots, 2])
        shares, scale, point, flux, tilt, ends = np.split(x, sizes)
        return cls(
            shares=np.exp(shares.reshape(n_types, n_knots)),
            scale=np.exp(scale),
            point=point,
            flux=np.exp(flux),
            tilt=tilt,
            grid=SamplingGrid(bp=tuple(ends[:2]), rp=tuple(ends[2:])),
        )

    @staticmethod
    def pack(start: SurveyParameters, names: list[str]) -> Float:
        shares = np.array([start.type_fractions[name] for name in names])
        return np.concatenate(
            [
                np.log(shares).ravel(),
                np.log(start.profile_scale),
                start.point_fraction,
                np.log(start.rp_flux),
                [start.dust_tilt["quiescent"], start.dust_tilt["active"]],
                [*start.grid_end_points["bp"], *start.grid_end_points["rp"]],
            ]
        )


def fit_survey(
    start: SurveyParameters, *, seed: int = 1, fix_grid: bool = False
) -> tuple[dict[str, Any], MeanComparison]:
    """Fit population, profile, level, dust and grid to the real mean spectra.

    Parameters
    ----------
    start : SurveyParameters
        Starting values, which are also the centre of the prior.
    seed : int
        Draws the galaxies behind the expected means.
    fix_grid : bool
        Keep the grid's end points.

    Returns
    -------
    content : dict
        The new content of ``survey.json``.
    comparison : MeanComparison
        Expected against real means.
    """
    from scipy.optimize import least_squares

    model = _MeanModel(start, seed)
    real = load_real_means()
    used = real > FLUX_FLOOR
    centre = _Vector.pack(start, model.names)
    n_types, n_knots = len(model.names), start.redshift_knots.size
    sigma = np.concatenate(
        [
            np.full(n_types * n_knots, _SHARE_SIGMA),
            np.full(n_knots, _SCALE_SIGMA),
            np.full(n_knots, _POINT_SIGMA),
            np.full(n_knots, 1.0),
            np.full(2, _TILT_SIGMA),
            np.full(4, 1e-3 if fix_grid else _GRID_SIGMA),
        ]
    )
    low = np.full(centre.size, -np.inf)
    high = np.full(centre.size, np.inf)
    points = slice(n_knots * (n_types + 1), n_knots * (n_types + 2))
    low[points], high[points] = 0.005, 0.6
    ends = [limits for band in BANDS for limits in PLAUSIBLE_END_POINTS_NM[band]]
    low[-4:], high[-4:] = np.array(ends).T

    def residuals(x: Float) -> Float:
        found = compare_means(model.means(_Vector.unpack(x, n_types, n_knots)), real)
        shape = (found.ratio - 1) / _SHAPE_SIGMA[:, None]
        return np.concatenate(
            [
                shape[used] * 0.3,  # neighbouring samples are not independent
                3 * (found.colour - 1) / _RATIO_SIGMA,
                3 * (found.level - 1) / _LEVEL_SIGMA,
                (x - centre) / sigma,
            ]
        )

    inside = np.clip(centre, low + 1e-6, high - 1e-6)
    solution = least_squares(residuals, inside, bounds=(low, high), x_scale=sigma, max_nfev=60)
    best = _Vector.unpack(solution.x, n_types, n_knots)
    comparison = compare_means(model.means(best), real)
    return _describe(start, best, model.names), comparison


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
    put(np.round(best.scale, 3).tolist(), "profile", "scale")
    put(np.round(best.point, 4).tolist(), "profile", "point_fraction")
    put(np.round(best.flux, 4).tolist(), "brightness", "rp_flux")
    put(
        {"quiescent": round(best.tilt[0], 3), "active": round(best.tilt[1], 3)},
        "dust_tilt",
    )
    put(
        {b: [round(v, 2) for v in getattr(best.grid, b)] for b in BANDS},
        "grid_end_points",
    )
    return content


def main(argv: list[str] | None = None) -> int:
    """Command line of the fit."""
    parser = argparse.ArgumentParser(
        prog="python -m gaia_redshift.simulate.calibration", description=(__doc__ or "").strip()
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
    content, comparison = fit_survey(start, seed=options.seed, fix_grid=options.fix_grid)
    log.info("%s", comparison)
    log.info("grid (nm): %s", content["grid_end_points"]["value"])
    text = json.dumps(content, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    else:
        log.info("%s", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
