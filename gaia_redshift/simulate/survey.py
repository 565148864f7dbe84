"""The survey: which galaxies, how far, how bright, how extended, how often observed.

Every number stands in ``data/simulate/survey.json`` with its meaning and unit;
`research.simulator.calibration` fits those that real photometry and real mean spectra can tell.
Flux, size, type and colour are drawn together: a galaxy is chosen by its type and colour, and its
brightness and light profile follow from both.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import GIVEN, GalaxyLibrary, load_library
from gaia_redshift.simulate.redshifts import (
    QUIESCENT,
    REDSHIFT_RANGE,
    SURVEYS,
    Survey,
    choose_galaxies,
    find_node,
    load_selection,
)

__all__ = [
    "SKIES",
    "SURVEYS",
    "Survey",
    "SurveyParameters",
    "draw_truth",
    "load_parameters",
    "widen_sky",
]

Float = NDArray[np.float64]

_TEMPERATURE_MIX = (
    (2800.0, 3900.0, 0.25),
    (3900.0, 5300.0, 0.33),
    (5300.0, 6000.0, 0.22),
    (6000.0, 7300.0, 0.12),
    (7300.0, 10000.0, 0.05),
    (10000.0, 30000.0, 0.03),
)
"""Temperatures (K) from, to, and share: M, K, G, F, A stars and hotter ones, as faint stars are
mixed at high Galactic latitude; uniform in ln T within each."""


@dataclass(frozen=True, eq=False)
class SurveyParameters:
    """Contents of ``survey.json``; see there for meanings and units."""

    redshift_knots: Float
    type_fractions: dict[str, Float]
    colour_redshift_knots: Float
    colour_median: Float
    colour_scatter: Float
    colour_active_offset: float
    colour_active_factor: float
    profile_radius: Float
    profile_radius_scatter: float
    profile_index: Float
    profile_index_scatter: float
    profile_index_correlation: float
    profile_active_radius: float
    profile_active_index: float
    profile_ellipticity: tuple[float, float]
    profile_point_fraction: Float
    profile_point_fraction_concentration: float
    profile_background_taken: float
    profile_background_scatter: float
    brightness_redshift_knots: Float
    brightness_log_rp_flux: Float
    brightness_scatter: Float
    brightness_tail: Float
    brightness_colour_slope: float
    photometric_error_bp: float
    photometric_error_rp: float
    photometric_error_scatter: float
    photometric_error_correlation: float
    galactic_extinction_ebv_median: float
    galactic_extinction_ebv_scatter: float
    galactic_extinction_r_v: float
    transits_median: float
    transits_scatter: float
    transits_tail: tuple[float, float]
    transits_range: tuple[float, float]
    transits_bp_to_rp: float
    calibration_error_shape: float
    published_error_scatter: float
    background_residual_scatter: float
    background_residual_limit: float
    shift_scatter: float
    shift_limit: float
    blend_share: float
    blend_flux: float
    blend_separation: float
    grid_end_points: dict[str, tuple[float, float]]
    content: dict[str, Any] = field(repr=False)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SurveyParameters:
        """Read the file's layout, in which each number stands beside its meaning."""
        values: dict[str, Any] = {}
        for name, node in content.items():
            if name == "about":
                continue
            parts = {name: node} if "value" in node else {f"{name}_{k}": v for k, v in node.items()}
            values |= {key: part["value"] for key, part in parts.items()}
        values["type_fractions"] = {k: np.asarray(v) for k, v in values["type_fractions"].items()}
        values["grid_end_points"] = {k: tuple(v) for k, v in values["grid_end_points"].items()}
        pairs = ("profile_ellipticity", "transits_tail", "transits_range")
        for key, value in values.items():
            if isinstance(value, list):
                values[key] = tuple(value) if key in pairs else np.asarray(value, dtype=float)
        return cls(**values, content=dict(content))

    def at(self, z: Float, values: Float) -> Float:
        """Interpolate values given at the knots."""
        return np.interp(z, self.redshift_knots, values)

    def share_quiescent(self, z: Float) -> Float:
        """Share of the quiescent among galaxies at redshifts z, shape (n,)."""
        shares = {k: self.at(z, v) for k, v in self.type_fractions.items() if k != GIVEN}
        quiescent = np.sum([shares[k] for k in QUIESCENT], axis=0)
        return np.asarray(quiescent / np.sum(list(shares.values()), axis=0))


@functools.lru_cache(maxsize=1)
def load_parameters() -> SurveyParameters:
    """Return the parameters that ship with the package."""
    path = files("gaia_redshift") / "data" / "simulate" / "survey.json"
    return SurveyParameters.from_dict(json.loads(path.read_text(encoding="utf-8")))


def blind_sky(p: SurveyParameters) -> SurveyParameters:
    """Return a sky whose galaxies' flux is drawn independently of everything else."""
    return dataclasses.replace(
        p,
        brightness_log_rp_flux=np.full_like(p.brightness_log_rp_flux, 2.75),
        brightness_scatter=np.full_like(p.brightness_scatter, 0.45),
        brightness_tail=np.full_like(p.brightness_tail, 0.3),
        brightness_colour_slope=0.0,
    )


def disturb_sky(p: SurveyParameters) -> SurveyParameters:
    """Return a blind sky that varies more than it is thought to in all that disturbs a spectrum.

    Sizes and concentrations scatter more about their relations, colours about theirs; extinction,
    background, shifts, neighbours, calibration, transits and published errors are worse.
    """
    return dataclasses.replace(
        blind_sky(p),
        colour_scatter=np.hypot(p.colour_scatter, 0.04),
        profile_radius_scatter=0.6,
        profile_index_scatter=1.6,
        profile_background_scatter=0.2,
        photometric_error_bp=1.5 * p.photometric_error_bp,
        photometric_error_rp=1.25 * p.photometric_error_rp,
        photometric_error_scatter=1.0,
        galactic_extinction_ebv_scatter=1.0,
        transits_tail=(0.3, p.transits_tail[1]),
        calibration_error_shape=1.3 * p.calibration_error_shape,
        background_residual_scatter=2.0 * p.background_residual_scatter,
        background_residual_limit=1.0,
        shift_scatter=0.35,
        shift_limit=1.2,
        blend_share=0.16,
        blend_flux=0.15,
        published_error_scatter=0.15,
    )


def widen_sky(p: SurveyParameters) -> SurveyParameters:
    """Return a disturbed sky in which size says nothing of the redshift either, types less.

    Sizes and concentrations scatter widely about one value, and types are mixed more evenly: what
    a network learns from such spectra are their features.
    """

    def even(values: Float) -> Float:
        return np.full_like(values, np.mean(values))

    mean = {name: even(share) for name, share in p.type_fractions.items()}
    return dataclasses.replace(
        disturb_sky(p),
        type_fractions={k: 0.6 * v + 0.4 * mean[k] for k, v in p.type_fractions.items()},
        profile_radius=np.full_like(p.profile_radius, 1900.0),
        profile_index=np.full_like(p.profile_index, 4.6),
        profile_active_radius=0.0,
        profile_active_index=0.0,
        profile_point_fraction=np.full_like(p.profile_point_fraction, 0.05),
        profile_point_fraction_concentration=8.0,
    )


SKIES: dict[str, tuple[Callable[[SurveyParameters], SurveyParameters], ...]] = {
    "sdss": (lambda p: p,),
    "wide": (widen_sky,),
    "mixed": (blind_sky, disturb_sky, widen_sky),
}
"""Populations by name, in equal parts: the galaxies that SDSS targets and Gaia sees, and two to
train on, in which flux says nothing of the redshift. A network trained on "mixed" takes from sizes
and colours what they say of spectra like SDSS's, and of others less."""


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
        ``redshift_true``, ``galaxy`` (row of the library), ``type``, ``radius_sersic`` (mas, along
        the major axis), ``n_sersic``, ``ellipticity_sersic``, ``point_fraction``,
        ``background_taken`` (part of the level at the window's ends), ``rp_flux``
        (photometric: the integral of the RP spectrum over the window, e-/s), ``ebv`` (mag), and
        what ``draw_nuisances`` and ``draw_transits`` draw.
    """
    p = parameters or load_parameters()
    library = library or load_library()
    z = np.asarray(survey.quantile(rng.uniform(size=n)), dtype=float)
    if z.shape != (n,) or not np.all((z >= REDSHIFT_RANGE[0]) & (z <= REDSHIFT_RANGE[1])):
        raise InputError(
            "the survey must give one redshift between"
            f" {REDSHIFT_RANGE[0]} and {REDSHIFT_RANGE[1]} for each galaxy"
        )
    selection = load_selection(p, library)
    galaxy = choose_galaxies(selection, z, rng.uniform(size=n))
    types = library.types[galaxy]
    # Spectra that a user gives are of no type: their profiles are those of all.
    if types[0] == GIVEN:
        quiescent = rng.uniform(size=n) < p.share_quiescent(z)
    else:
        quiescent = np.isin(types, QUIESCENT)
    return {
        "redshift_true": z,
        "galaxy": galaxy,
        "type": types,
        **draw_profiles(z, quiescent, rng, p),
        "rp_flux": draw_brightness(z, rng, p)
        * 10 ** (p.brightness_colour_slope * selection.excess[galaxy, find_node(z)]),
        "ebv": rng.lognormal(
            np.log(p.galactic_extinction_ebv_median), p.galactic_extinction_ebv_scatter, n
        ),
        **draw_transits(n, rng, p),
        **draw_nuisances(n, rng, p),
    }


def draw_profiles(
    z: Float, quiescent: NDArray[np.bool_], rng: np.random.Generator, p: SurveyParameters
) -> dict[str, Float]:
    """Draw light profiles of galaxies at redshifts z, shape (n,)."""
    n = len(z)
    first, second = rng.standard_normal((2, n))
    r = p.profile_index_correlation
    active = ~quiescent
    radius = p.at(z, p.profile_radius) * np.exp(
        p.profile_radius_scatter * first + p.profile_active_radius * active
    )
    index = p.at(z, p.profile_index) + p.profile_active_index * active
    index = index + p.profile_index_scatter * (r * first + np.sqrt(1 - r**2) * second)
    mean = p.at(z, p.profile_point_fraction)
    total = p.profile_point_fraction_concentration
    return {
        "radius_sersic": radius,
        "n_sersic": np.clip(index, 1.0, 8.0),
        "ellipticity_sersic": np.clip(rng.normal(*p.profile_ellipticity, n), 0.0, 0.7),
        "point_fraction": rng.beta(total * mean, total * (1 - mean)),
        "background_taken": np.clip(
            rng.normal(p.profile_background_taken, p.profile_background_scatter, n), 0.0, 1.0
        ),
    }


def interpolate_flux(z: Float, p: SurveyParameters) -> Float:
    """Median photometric RP flux (e-/s) at redshifts z: its logarithm is smooth through the knots.

    Straight pieces would bend at every knot, and flux tells redshift.
    """
    from scipy.interpolate import PchipInterpolator

    knots = p.brightness_redshift_knots
    curve = PchipInterpolator(knots, p.brightness_log_rp_flux)
    inside = np.clip(z, knots[0], knots[-1])
    return 10 ** (curve(inside) + curve(inside, 1) * (z - inside))


def draw_brightness(z: Float, rng: np.random.Generator, p: SurveyParameters) -> Float:
    """Draw the photometric RP flux (e-/s) of galaxies at redshifts z, before the colour's part.

    Around its median, log10 flux has a Gaussian part and an exponential tail towards bright
    galaxies, as in a survey with a flux limit below the knee of the luminosity function.
    """
    exponential, normal = rng.standard_exponential(len(z)), rng.standard_normal(len(z))
    return interpolate_flux(z, p) * 10 ** spread_brightness(z, exponential, normal, p)


def spread_brightness(z: Float, exponential: Float, normal: Float, p: SurveyParameters) -> Float:
    """Return log10 of the flux over its median at redshifts z, from two standard variates."""
    knots = p.brightness_redshift_knots
    scatter, tail = (np.interp(z, knots, v) for v in (p.brightness_scatter, p.brightness_tail))
    # 0.693: the exponential's median. What is left to the sum's own median is below 0.02 sigma.
    return scatter * (np.sqrt(tail) * (exponential - 0.693) + np.sqrt(1 - tail) * normal)


def draw_transits(n: int, rng: np.random.Generator, p: SurveyParameters) -> dict[str, Float]:
    """Draw the numbers of transits in each band, ``transits_bp`` and ``transits_rp``."""
    low, high = p.transits_range
    share, wide = p.transits_tail
    scatter = np.where(rng.uniform(size=n) < share, wide, p.transits_scatter)
    transits = p.transits_median * np.exp(scatter * rng.standard_normal(n))
    transits = np.clip(transits, low, high)
    return {
        "transits_bp": np.maximum(np.round(transits * p.transits_bp_to_rp), 3),
        "transits_rp": np.round(transits),
    }


def draw_nuisances(n: int, rng: np.random.Generator, p: SurveyParameters) -> dict[str, Float]:
    """Draw what disturbs a spectrum beside its noise, shape (n,) each.

    ``level_error_bp``, ``level_error_rp`` (relative) and the sizes from which they were drawn
    (``level_sigma_*``); ``background_bp``, ``background_rp`` (e-/s per unit pseudo-wavelength);
    ``shift`` (pixels along scan); ``blend_flux`` (RP flux of a star in the window over the
    galaxy's, 0 without one), ``blend_separation`` (pixels), ``blend_teff`` (K).
    """
    first, second = rng.standard_normal((2, n))
    r = p.photometric_error_correlation
    size = np.exp(p.photometric_error_scatter * rng.standard_normal(n))
    sigma = {"bp": p.photometric_error_bp * size, "rp": p.photometric_error_rp * size}
    error = {"bp": first, "rp": r * first + np.sqrt(1 - r**2) * second}
    out = {}
    for band in ("bp", "rp"):
        sigma[band] = np.minimum(sigma[band], 0.3)
        out[f"level_sigma_{band}"] = sigma[band]
        out[f"level_error_{band}"] = sigma[band] * np.clip(error[band], -3, 3)
        limit = p.background_residual_limit
        out[f"background_{band}"] = np.clip(
            rng.normal(0.0, p.background_residual_scatter, n), -limit, limit
        )
    out["shift"] = np.clip(rng.normal(0.0, p.shift_scatter, n), -p.shift_limit, p.shift_limit)
    blended = rng.uniform(size=n) < p.blend_share
    out["blend_flux"] = np.where(blended, rng.uniform(0.0, p.blend_flux, n), 0.0)
    # Evenly over the disc around the galaxy.
    out["blend_separation"] = p.blend_separation * np.sqrt(rng.uniform(size=n))
    out["blend_teff"] = draw_temperatures(n, rng)
    return out


def draw_temperatures(n: int, rng: np.random.Generator) -> Float:
    """Draw effective temperatures (K), shape (n,), as faint stars have them."""
    low, high, share = np.array(_TEMPERATURE_MIX).T
    part = np.searchsorted(np.cumsum(share)[:-1], rng.uniform(size=n))
    return low[part] * (high[part] / low[part]) ** rng.uniform(size=n)
