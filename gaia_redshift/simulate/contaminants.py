"""Stars and quasars as Gaia would observe them: what a galaxy's redshift must not be given to.

They go through the instrument and the noise of the simulated galaxies: single stars and quasars,
double stars, stars beside a galaxy, and, as the hardest test of whether a spectrum is read, stars
smeared like a galaxy. Their spectra are made of formulas. No library of stars is behind them:
temperatures set the strengths of lines and bands, with a scatter from star to star that stands for
abundances and gravity; at the resolution of BP/RP that looks like a star, though like no star in
particular. Wavelengths, equivalent widths and widths of quasars' lines, and the continuum's slopes,
follow the composite of SDSS quasars by Vanden Berk et al. (2001, AJ 122, 549), but for the
continuum redward of 4661 A: the composite's holds host galaxies, which are left out here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.instrument import BANDS
from gaia_redshift.simulate.observation import (
    CHUNK,
    Scene,
    disperse_fluxes,
    point_source_coefficients,
    smear_sources,
)
from gaia_redshift.simulate.profile import displace_coefficients
from gaia_redshift.simulate.redshifts import Survey, make_quantile
from gaia_redshift.simulate.survey import (
    SurveyParameters,
    draw_brightness,
    draw_nuisances,
    draw_profiles,
    draw_temperatures,
    draw_transits,
    draw_truth,
)

__all__ = [
    "CONTAMINANTS",
    "LINES",
    "draw_contaminants",
    "draw_quasars",
    "quasar_fluxes",
    "resolve_brightness",
    "star_fluxes",
]

Float = NDArray[np.float64]

CONTAMINANTS = ("star", "quasar", "double_star", "star_galaxy", "smeared_star")
"""Kinds of sources other than galaxies."""

# Stars stand in or behind the Milky Way's dust: log-normal E(B-V), mag. Quasars as galaxies.
_STAR_EBV = (0.12, 1.0, 1.3)
_SEPARATION = (3.4, 17.0)
"""Of two sources, pixels of 59 mas: 0.2 to 1 arcsec."""
_POINT_LEVEL = 0.1
"""Errors of a point source's level over those of a galaxy's."""

_BALMER_NM = (656.46, 486.27, 434.17, 410.29, 397.12, 389.02, 383.65, 379.90, 377.17)
_BALMER_RELATIVE = (0.75, 0.90, 1.0, 1.0, 0.85, 0.65, 0.45, 0.30, 0.20)

# Head (nm), greatest depth and extent redwards (nm) of the bands of TiO (and VO at 740 nm).
_TIO = (
    (476.1, 0.45, 14.0), (495.4, 0.60, 14.0), (516.7, 0.65, 16.0), (544.8, 0.55, 18.0),
    (584.7, 0.55, 16.0), (615.9, 0.65, 22.0), (665.1, 0.60, 20.0), (705.4, 0.75, 28.0),
    (740.0, 0.30, 12.0), (758.9, 0.60, 22.0), (843.2, 0.45, 20.0), (885.9, 0.35, 20.0),
)  # fmt: skip

# Rest wavelength, equivalent width and sigma of the profile, A.
LINES = (
    (1033.0, 9.8, 7.8), (1216.25, 92.9, 19.5), (1239.9, 1.1, 2.7), (1305.4, 1.7, 5.4),
    (1336.6, 0.7, 3.9), (1398.3, 8.1, 14.2), (1546.2, 23.8, 14.3), (1637.8, 0.5, 3.9),
    (1664.7, 0.4, 5.3), (1856.8, 0.3, 5.0), (1906.0, 21.2, 23.6), (2800.3, 32.3, 34.9),
    (3426.8, 1.2, 4.3), (3729.7, 1.6, 3.3), (3869.8, 1.4, 5.3), (4102.7, 5.1, 18.6),
    (4346.4, 12.6, 20.3), (4853.1, 46.2, 40.4), (4960.4, 3.5, 3.9), (5008.2, 13.2, 6.0),
    (5877.4, 4.9, 23.5), (6564.9, 194.5, 47.4), (6718.9, 1.7, 2.1), (6733.7, 1.5, 2.5),
)  # fmt: skip
_NARROW_A = 6.5
"""Lines above 3400 A with a smaller sigma are narrow: ``line_width`` does not stretch them."""
# Iron roughly: broad humps in the ultraviolet and on both sides of H beta.
_IRON = ((1900.0, 12.0, 70.0), (2150.0, 18.0, 90.0), (2480.0, 45.0, 120.0),
         (4564.0, 19.0, 62.0), (5250.0, 22.0, 100.0))  # fmt: skip
_LYMAN_ALPHA, _LYMAN_LIMIT, _BREAK, _BALMER_LIMIT = 1215.67, 911.8, 4661.0, 3646.0


def resolve_brightness(
    brightness: Any, survey: Survey, p: SurveyParameters
) -> Callable[[int, np.random.Generator], Float]:
    """Turn a word, a sample or a quantile function of RP fluxes into what draws n of them."""
    if isinstance(brightness, str):
        if brightness != "galaxies":
            raise InputError(
                f"unknown brightness '{brightness}': it is 'galaxies', a sample of RP fluxes"
                " (e-/s) or a function from uniform numbers to fluxes"
            )
        return lambda n, rng: draw_brightness(survey.quantile(rng.uniform(size=n)), rng, p)
    quantile = brightness
    if not callable(brightness):
        sample = np.asarray(brightness, dtype=float).ravel()
        if sample.size == 0:
            raise InputError("the sample of RP fluxes is empty")
        quantile = make_quantile(_check_fluxes(sample))

    def draw(n: int, rng: np.random.Generator) -> Float:
        return _check_fluxes(np.asarray(quantile(rng.uniform(size=n)), dtype=float))

    return draw


def _check_fluxes(flux: Float) -> Float:
    if not np.all(np.isfinite(flux) & (flux > 0)):
        raise InputError("RP fluxes (e-/s) must be positive numbers")
    return flux


def draw_contaminants(
    kind: str, rng: np.random.Generator, scene: Scene
) -> tuple[dict[str, NDArray[Any]], dict[str, Float]]:
    """Draw a chunk of sources of a kind: their properties, and their light, (n, k) a band."""
    parameters, instrument = scene.parameters, scene.instrument
    truth: dict[str, NDArray[Any]] = {
        "type": np.full(CHUNK, kind),
        "redshift_true": np.zeros(CHUNK),
        "radius_sersic": np.zeros(CHUNK),
        "n_sersic": np.ones(CHUNK),
        "ellipticity_sersic": np.zeros(CHUNK),
        "point_fraction": np.ones(CHUNK),
        "background_taken": np.zeros(CHUNK),
        "rp_flux": scene.draw_flux(CHUNK, rng),
        "teff": np.full(CHUNK, np.nan),
        **draw_transits(CHUNK, rng, parameters),
        **draw_nuisances(CHUNK, rng, parameters),
    }
    truth["blend_flux"] = np.zeros(CHUNK)
    if kind == "smeared_star":
        z = scene.survey.quantile(rng.uniform(size=CHUNK))
        truth |= draw_profiles(z, np.ones(CHUNK, dtype=bool), rng, parameters)
    else:  # a point's level hardly depends on the scan angle
        for name in ("level_error_bp", "level_error_rp", "level_sigma_bp", "level_sigma_rp"):
            truth[name] = truth[name] * _POINT_LEVEL
    disperse = functools.partial(
        disperse_fluxes,
        truth=truth,
        parameters=parameters,
        rng=rng if scene.noise else None,
        instrument=instrument,
    )

    def disperse_stars() -> dict[str, Float]:
        median, scatter, most = _STAR_EBV
        teff = truth["teff"] = draw_temperatures(CHUNK, rng)
        strength = np.exp(rng.normal(0.0, 0.25, CHUNK))
        truth["ebv"] = np.minimum(rng.lognormal(np.log(median), scatter, CHUNK), most)
        return disperse(
            lambda band: star_fluxes(teff, strength, getattr(instrument, band).wavelength)
        )

    if kind == "quasar":
        quasars = draw_quasars(CHUNK, rng)
        truth["ebv"] = rng.lognormal(
            np.log(parameters.galactic_extinction_ebv_median),
            parameters.galactic_extinction_ebv_scatter,
            CHUNK,
        )
        truth["redshift_true"] = quasars["redshift"]
        point = disperse(lambda band: quasar_fluxes(quasars, getattr(instrument, band).edges))
    else:
        second = disperse_stars() if kind == "double_star" else None
        point = disperse_stars()
        if kind == "star_galaxy":
            galaxies = draw_truth(
                CHUNK, rng, scene.survey, parameters=parameters, library=scene.library
            )
            galaxies["rp_flux"] = np.ones(CHUNK)
            light = point_source_coefficients(galaxies, parameters, None, scene.library, instrument)
            second = smear_sources(light, galaxies, instrument)
        if second is not None:
            ratio = rng.uniform(0.1, 1.0, CHUNK)
            separation = rng.uniform(*_SEPARATION, CHUNK)
            for band in BANDS:
                beside = displace_coefficients(second[band], separation, band, instrument)
                point[band] = point[band] + ratio[:, None] * beside
    return truth, smear_sources(point, truth, instrument)


def star_fluxes(teff: Float, strength: Float, wavelength: Float) -> Float:
    """Return f_lambda of stars, (n, m), any unit, at wavelengths (m,), nm, without extinction.

    ``strength`` of all lines and bands is 1 in the mean. Planck's law; hydrogen, strongest near
    9,000 K; metal lines in cool stars; TiO below 4,100 K. Equivalent widths are round numbers for
    dwarfs.
    """
    t = np.asarray(teff, dtype=float)[:, None]
    s = np.asarray(strength, dtype=float)[:, None]
    w = np.asarray(wavelength, dtype=float)[None, :]
    flux = w**-5 / np.expm1(1.438777e7 / (w * t))
    flux = flux / (5.5e2**-5 / np.expm1(1.438777e7 / (5.5e2 * t)))

    away = np.log10(t / 9000.0)
    hydrogen = np.exp(-0.5 * (away / np.where(away < 0, 0.12, 0.28)) ** 2)
    # The Balmer lines run together before the limit, which smooths the jump.
    flux *= 10 ** (-0.5 * hydrogen / (1 + np.exp((w - 371.0) / 4.0)))
    flux *= 10 ** (-0.06 * hydrogen / (1 + np.exp((w - 835.0) / 8.0)))
    for centre, relative in zip(_BALMER_NM, _BALMER_RELATIVE, strict=True):
        flux *= 1 - _line(w, centre, 1.2, np.minimum(1.35 * relative * hydrogen * s, 1.9))

    cool = 1 / (1 + np.exp((t - 6300.0) / 600.0))
    crowding = s * (0.08 + 0.9 * cool) * np.maximum((520.0 - w) / 150.0, 0.0) ** 1.5
    flux *= np.exp(-crowding)
    late = 1 / (1 + np.exp((t - 4700.0) / 400.0))
    metals = (
        (393.5, 1.1, 0.9 * cool), (397.0, 1.1, 0.8 * cool), (422.8, 0.8, 0.5 * late),
        (430.6, 1.5, 0.5 * cool * (1 - 0.7 * late)), (517.5, 2.0, 0.12 * cool + 0.6 * late),
        (512.0, 5.0, 0.9 * late), (527.0, 1.5, 0.15 * cool + 0.2 * late),
        (589.3, 1.0, 0.06 * cool + 0.5 * late), (849.8, 1.0, 0.13 * cool),
        (854.2, 1.0, 0.32 * cool), (866.2, 1.0, 0.26 * cool),
    )  # fmt: skip
    for centre, sigma, width in metals:
        flux *= 1 - _line(w, centre, sigma, np.minimum(width * s, 2.3 * sigma))
    titanium = np.clip((4100.0 - t) / 1300.0, 0.0, 1.0) * s
    for head, depth, extent in _TIO:
        shape = np.where(w > head, np.exp(-(w - head) / extent), 0.0)
        flux *= 1 - np.minimum(depth * titanium, 0.95) * shape
    return flux


def _line(w: Float, centre: float, sigma: float, width: Float) -> Float:
    """Gaussian of a given equivalent width (nm)."""
    return width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((w - centre) / sigma) ** 2)


def draw_quasars(n: int, rng: np.random.Generator) -> dict[str, Float]:
    """Draw what makes each quasar, shape (n,) each.

    ``redshift``; ``blue_slope`` and ``red_slope`` of f_lambda; ``line_strength``, ``line_width``
    and ``iron`` relative to the composite; ``absorption``, A_V (mag) of the quasar's own dust.
    """
    return {
        "redshift": 4.5 * rng.beta(2.0, 3.3, n),  # in the mean 1.7
        "blue_slope": rng.normal(-1.56, 0.3, n),
        "red_slope": rng.normal(-0.5, 0.4, n),
        "line_strength": 10 ** rng.normal(0.0, 0.15, n),
        "line_width": 10 ** rng.normal(0.0, 0.1, n),
        "iron": 10 ** rng.normal(0.0, 0.25, n),
        "absorption": np.minimum(rng.exponential(0.08, n), 1.0),
    }


def quasar_fluxes(quasars: dict[str, Float], edges_nm: Float) -> Float:
    """Return the mean f_lambda of quasars, (n, m), any unit, in observed bins (m + 1 edges, nm).

    Without Galactic extinction. The forest is its mean: an optical depth of 0.0036 (1 + z)^3.46 at
    the redshift where the light passed Lyman alpha (Press, Rybicki & Schneider 1993).
    """
    from scipy.special import ndtr

    q = {name: np.asarray(value, dtype=float)[:, None] for name, value in quasars.items()}
    edges = 10.0 * np.asarray(edges_nm)[None, :] / (1.0 + q["redshift"])
    rest = 0.5 * (edges[:, 1:] + edges[:, :-1])
    step = np.diff(edges, axis=1)

    def continuum(w: Float) -> Float:
        slope = np.where(w > _BREAK, q["red_slope"], q["blue_slope"])
        level = (w / _BREAK) ** slope
        turn = (w / _LYMAN_ALPHA) ** (-0.3 - q["blue_slope"])  # flatter beyond Lyman alpha
        return level * np.where(w < _LYMAN_ALPHA, turn, 1.0)

    flux = continuum(rest)
    balmer = np.where(rest < _BALMER_LIMIT, (rest / _BALMER_LIMIT) ** 3, 0.0)
    flux += 0.12 * q["iron"] * balmer * continuum(np.full_like(rest, 3000.0))
    for lines, strength, width in (
        (LINES, q["line_strength"], q["line_width"]),
        (_IRON, q["iron"], 1.0),
    ):
        for centre, equivalent, sigma in lines:
            narrow = centre > 3400.0 and sigma < _NARROW_A
            spread = sigma * (1.0 if narrow else width)
            share = np.diff(ndtr((edges - centre) / spread), axis=1) / step
            at = continuum(np.full((1, 1), centre))
            flux += strength * equivalent * at * share
    law = (rest / 5500.0) ** -1.2
    flux *= 10 ** (-0.4 * q["absorption"] * law)
    passed = rest * (1.0 + q["redshift"]) / _LYMAN_ALPHA  # 1 + z where the light met Lyman alpha
    flux *= np.exp(-np.where(rest < _LYMAN_ALPHA, 0.0036 * passed**3.46, 0.0))
    return flux * np.where(rest < _LYMAN_LIMIT, np.exp(-0.5 * passed), 1.0)
