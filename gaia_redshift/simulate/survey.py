"""The survey: which galaxies, how far, how bright, how extended, how often observed.

Every number stands in ``data/simulate/survey.json`` with its meaning and unit;
`gaia_redshift.simulate.calibration` fits those that real mean spectra can tell.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import GalaxyLibrary, load_library

__all__ = ["SURVEYS", "Survey", "SurveyParameters", "draw_truth", "load_parameters"]

Float = NDArray[np.float64]

REDSHIFT_RANGE = (0.0, 0.6)
QUIESCENT = ("passive", "green_valley", "post_burst")
"""Types whose dust follows ``dust_tilt.quiescent``; the others follow ``dust_tilt.active``."""

# Kiraleos (2023): percentiles of the 520,393 SDSS redshifts and shares of galaxies per bin of 0.05.
_PERCENTILES = {
    1: 0.0256, 5: 0.0446, 10: 0.0596, 25: 0.0843, 50: 0.1257,
    75: 0.1811, 90: 0.2586, 95: 0.3023, 99: 0.3694,
}  # fmt: skip
_BIN_PERCENT = (6.62, 27.77, 28.99, 16.61, 8.80, 6.00, 3.55, 1.15, 0.30, 0.11, 0.06, 0.04)


@dataclass(frozen=True)
class SurveyParameters:
    """Contents of ``survey.json``; see there for meanings and units."""

    redshift_knots: Float
    type_fractions: dict[str, Float]
    dust_tilt: dict[str, float]
    profile_scale: Float
    profile_scatter: float
    point_fraction: Float
    point_concentration: float
    rp_flux: Float
    rp_flux_scatter: Float
    rp_flux_tail: float
    ebv_median: float
    ebv_scatter: float
    ebv_rv: float
    transits_median: float
    transits_scatter: float
    transits_range: tuple[float, float]
    bp_transit_ratio: float
    calibration_shape: float
    calibration_level: float
    grid_end_points: dict[str, tuple[float, float]]
    content: dict[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SurveyParameters:
        """Read the file's layout, in which each number stands beside its meaning."""

        def value(*keys: str) -> Any:
            node: Any = content
            for key in keys:
                node = node[key]
            return node["value"]

        return cls(
            redshift_knots=np.asarray(value("redshift_knots"), dtype=float),
            type_fractions={
                k: np.asarray(v, dtype=float) for k, v in value("type_fractions").items()
            },
            dust_tilt=dict(value("dust_tilt")),
            profile_scale=np.asarray(value("profile", "scale"), dtype=float),
            profile_scatter=value("profile", "scale_scatter"),
            point_fraction=np.asarray(value("profile", "point_fraction"), dtype=float),
            point_concentration=value("profile", "point_fraction_concentration"),
            rp_flux=np.asarray(value("brightness", "rp_flux"), dtype=float),
            rp_flux_scatter=np.asarray(value("brightness", "rp_flux_scatter"), dtype=float),
            rp_flux_tail=value("brightness", "rp_flux_tail"),
            ebv_median=value("galactic_extinction", "ebv_median"),
            ebv_scatter=value("galactic_extinction", "ebv_scatter"),
            ebv_rv=value("galactic_extinction", "r_v"),
            transits_median=value("transits", "median"),
            transits_scatter=value("transits", "scatter"),
            transits_range=tuple(value("transits", "range")),
            bp_transit_ratio=value("transits", "bp_to_rp"),
            calibration_shape=value("calibration_error", "shape"),
            calibration_level=value("calibration_error", "level"),
            grid_end_points={k: tuple(v) for k, v in value("grid_end_points").items()},
            content=dict(content),
        )


@functools.lru_cache(maxsize=1)
def load_parameters() -> SurveyParameters:
    """Return the parameters that ship with the package."""
    path = files("gaia_redshift") / "data" / "simulate" / "survey.json"
    return SurveyParameters.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _sdss_quantile() -> Callable[[Float], Float]:
    from scipy.interpolate import PchipInterpolator

    edges = np.arange(13) * 0.05
    shares = np.concatenate([[0.0], np.cumsum(_BIN_PERCENT)]) / sum(_BIN_PERCENT)
    points = dict(zip(edges.tolist(), shares.tolist(), strict=True))
    points |= {z: p / 100.0 for p, z in _PERCENTILES.items()}
    z = np.array(sorted(points))
    cumulative = np.maximum.accumulate([points[v] for v in z])
    grid = np.linspace(0.0, 0.6, 6001)
    fine = np.clip(PchipInterpolator(z, cumulative)(grid), 0.0, 1.0)
    keep = np.concatenate([[True], np.diff(fine) > 0])
    return lambda u: np.interp(u, fine[keep], grid[keep])


def make_quantile(sample: Float) -> Callable[[Float], Float]:
    """Return the quantile function of a sample, shape (m,): uniform numbers -> like values."""
    values = np.sort(sample)
    place = (np.arange(values.size) + 0.5) / values.size
    return lambda u: np.interp(u, place, values)


@dataclass(frozen=True)
class Survey:
    """A distribution of redshifts, and what depends on it.

    Parameters
    ----------
    name : str
    quantile : callable
        Maps uniform numbers in [0, 1), shape (n,), to redshifts, shape (n,), within 0 to 0.6.
    """

    name: str
    quantile: Callable[[Float], Float]

    @classmethod
    def resolve(cls, survey: Any) -> Survey:
        """Turn a name, a callable or a sample of redshifts into a Survey.

        Raises
        ------
        InputError
            If the name is unknown or a redshift lies outside 0 to 0.6.
        """
        if isinstance(survey, Survey):
            return survey
        if isinstance(survey, str):
            if survey not in SURVEYS:
                raise InputError(f"unknown survey '{survey}': choose from {', '.join(SURVEYS)}")
            return SURVEYS[survey]()
        if callable(survey):
            return cls(name="user", quantile=survey)
        sample = np.asarray(survey, dtype=float).ravel()
        low, high = REDSHIFT_RANGE
        if sample.size == 0 or not np.all((sample >= low) & (sample <= high)):
            raise InputError(f"a survey's redshifts must lie between {low} and {high}")
        return cls(name="user", quantile=make_quantile(sample))

    def restrict(self, low: float, high: float) -> tuple[Survey, float]:
        """Return the survey's part between two redshifts, and its share of the whole.

        Parameters
        ----------
        low, high : float
            Redshifts; those of the part lie at or above ``low`` and below ``high``.

        Raises
        ------
        InputError
            If the survey has no galaxies there.
        """

        def place(z: float) -> float:  # by halving: a quantile function rises
            bottom, top = 0.0, 1.0
            for _ in range(50):
                middle = 0.5 * (bottom + top)
                below = float(self.quantile(np.array([middle]))[0]) < z
                bottom, top = (middle, top) if below else (bottom, middle)
            return top

        first, last = place(low), place(high)
        if last - first < 1e-9:
            raise InputError(f"survey {self.name} has no galaxies at z = {low:g} to {high:g}")

        def quantile(u: Float) -> Float:
            z = self.quantile(first + (last - first) * np.asarray(u))
            return np.clip(z, low, np.nextafter(high, low))

        return Survey(f"{self.name}, z {low:g}-{high:g}", quantile), last - first


def _mix_quantiles(share: float) -> Callable[[Float], Float]:
    """Quantile function of a mixture: this share of the "sdss" survey, the rest flat."""
    u = np.linspace(0.0, 1.0, 20_001)
    grid = np.linspace(*REDSHIFT_RANGE, 6001)
    sdss = _sdss_quantile()(u)
    rising = np.concatenate([[True], np.diff(sdss) > 0])
    below = np.interp(grid, sdss[rising], u[rising], left=0.0, right=1.0)
    cumulative = share * below + (1 - share) * (grid - grid[0]) / (grid[-1] - grid[0])
    return lambda v: np.interp(v, cumulative, grid)


SURVEYS: dict[str, Callable[[], Survey]] = {
    "sdss": lambda: Survey("sdss", _sdss_quantile()),
    "flat": lambda: Survey("flat", lambda u: REDSHIFT_RANGE[1] * u),
    "mixed": lambda: Survey("mixed", _mix_quantiles(0.6)),
}
"""Named redshift distributions: the dissertation's SDSS galaxies; uniform from 0 to 0.6; six parts
of the first with four of the second, to train on."""


@functools.lru_cache(maxsize=1)
def universe_age() -> tuple[Float, Float]:
    """Age of the Universe (Gyr) at redshifts 0 to 0.6 (Planck 2018)."""
    from astropy.cosmology import Planck18

    z = np.linspace(0.0, 0.6, 61)
    return z, Planck18.age(z).value


def draw_truth(
    n: int,
    rng: np.random.Generator,
    survey: Survey,
    *,
    parameters: SurveyParameters | None = None,
    library: GalaxyLibrary | None = None,
) -> dict[str, NDArray[Any]]:
    """Draw everything about n galaxies but their noise.

    Parameters
    ----------
    n : int
    rng : numpy.random.Generator
    survey : Survey
    parameters : SurveyParameters, optional
    library : GalaxyLibrary, optional

    Returns
    -------
    dict of ndarray, shape (n,)
        ``redshift_true``, ``galaxy`` (row of the library), ``type``, ``profile_scale`` (pixels of
        59 mas along scan), ``point_fraction``, ``rp_flux`` (mean over the RP window, before
        anything is lost outside it, e-/s), ``ebv`` (mag), ``transits_bp``, ``transits_rp``.
    """
    p = parameters or load_parameters()
    library = library or load_library()
    z = np.asarray(survey.quantile(rng.uniform(size=n)), dtype=float)
    if z.shape != (n,) or not np.all((z >= REDSHIFT_RANGE[0]) & (z <= REDSHIFT_RANGE[1])):
        raise InputError(
            "the survey must give one redshift between"
            f" {REDSHIFT_RANGE[0]} and {REDSHIFT_RANGE[1]} for each galaxy"
        )

    def at(values: Float) -> Float:
        return np.interp(z, p.redshift_knots, values)

    names = sorted(p.type_fractions)
    shares = np.array([at(p.type_fractions[name]) for name in names])
    cumulative = np.cumsum(shares / shares.sum(axis=0), axis=0)
    kind = np.minimum((rng.uniform(size=n) > cumulative).sum(axis=0), len(names) - 1)
    types = np.array(names)[kind]
    galaxy = _draw_galaxies(types, z, rng, p, library)
    scale = np.exp(rng.normal(np.log(at(p.profile_scale)), p.profile_scatter))
    mean = at(p.point_fraction)
    point = rng.beta(p.point_concentration * mean, p.point_concentration * (1 - mean))
    transits = draw_transits(n, rng, p)
    return {
        "redshift_true": z,
        "galaxy": galaxy,
        "type": types,
        "profile_scale": scale,
        "point_fraction": point,
        "rp_flux": draw_brightness(z, rng, p),
        "ebv": rng.lognormal(np.log(p.ebv_median), p.ebv_scatter, n),
        **transits,
    }


def interpolate_flux(z: Float, p: SurveyParameters, flux: Float | None = None) -> Float:
    """Geometric mean of the flux at redshifts z: its logarithm is smooth through the knots.

    Straight pieces of the flux itself would bend at every knot, and flux tells redshift.
    """
    from scipy.interpolate import PchipInterpolator

    knots = p.redshift_knots
    curve = PchipInterpolator(knots, np.log(p.rp_flux if flux is None else flux))
    inside = np.clip(z, knots[0], knots[-1])
    return np.exp(curve(inside) + curve(inside, 1) * (z - inside))


def draw_brightness(z: Float, rng: np.random.Generator, p: SurveyParameters) -> Float:
    """Draw the mean RP flux (e-/s) of galaxies at redshifts z, before losses.

    Around its geometric mean, log10 flux has an exponential tail towards bright galaxies, as in a
    survey with a flux limit below the knee of the luminosity function, and a Gaussian part.
    """
    scatter = np.interp(z, p.redshift_knots, p.rp_flux_scatter)
    tail = np.sqrt(p.rp_flux_tail) * (rng.standard_exponential(len(z)) - 1)
    core = np.sqrt(1 - p.rp_flux_tail) * rng.standard_normal(len(z))
    return interpolate_flux(z, p) * 10 ** (scatter * (tail + core))


def mean_brightness(z: Float, p: SurveyParameters, flux: Float | None = None) -> Float:
    """Expected flux at redshifts z: what `draw_brightness` gives on average."""
    width = np.log(10) * np.interp(z, p.redshift_knots, p.rp_flux_scatter)
    tail = width * np.sqrt(p.rp_flux_tail)
    factor = np.exp(0.5 * width**2 * (1 - p.rp_flux_tail) - tail) / (1 - tail)
    return interpolate_flux(z, p, flux) * factor


def draw_transits(n: int, rng: np.random.Generator, p: SurveyParameters) -> dict[str, Float]:
    """Draw the numbers of transits in each band, ``transits_bp`` and ``transits_rp``."""
    low, high = p.transits_range
    transits = np.clip(rng.lognormal(np.log(p.transits_median), p.transits_scatter, n), low, high)
    return {
        "transits_bp": np.maximum(np.round(transits * p.bp_transit_ratio), 1),
        "transits_rp": np.round(transits),
    }


def type_weights(
    library: GalaxyLibrary, name: str, p: SurveyParameters
) -> tuple[NDArray[np.intp], Float]:
    """Rows of one type in the library, and their weights by dust."""
    rows = np.flatnonzero(library.types == name)
    tilt = p.dust_tilt["quiescent" if name in QUIESCENT else "active"]
    weight = np.exp(tilt * library.parameters["av"][rows])
    return rows, weight / weight.sum()


def _draw_galaxies(
    types: NDArray[np.str_],
    z: Float,
    rng: np.random.Generator,
    p: SurveyParameters,
    library: GalaxyLibrary,
) -> NDArray[np.intp]:
    age = library.parameters["age"]
    limit = np.interp(z, *universe_age())
    galaxy = np.empty(len(z), dtype=np.intp)
    for name in sorted(p.type_fractions):
        todo = np.flatnonzero(types == name)
        rows, weight = type_weights(library, name, p)
        cumulative = np.cumsum(weight)
        while todo.size:
            pick = np.minimum(
                np.searchsorted(cumulative, rng.uniform(size=todo.size)), len(rows) - 1
            )
            galaxy[todo] = rows[pick]
            # Galaxies older than the Universe at their redshift are drawn again.
            todo = todo[age[galaxy[todo]] > limit[todo]]
    return galaxy
