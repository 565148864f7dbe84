"""Stars and quasars as Gaia would observe them: what a galaxy's redshift must not be given to.

They go through the instrument and the noise of the simulated galaxies, with spectra made of
formulas (`gaia_redshift.simulate.stars`, `gaia_redshift.simulate.quasars`): single stars and
quasars, double stars, stars beside a galaxy, and, as the hardest test of whether a spectrum is
read, stars smeared like a galaxy.
"""

from __future__ import annotations

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
from gaia_redshift.simulate.quasars import draw_quasars, quasar_fluxes
from gaia_redshift.simulate.redshifts import Survey, make_quantile
from gaia_redshift.simulate.stars import draw_temperatures, star_fluxes
from gaia_redshift.simulate.survey import (
    SurveyParameters,
    draw_brightness,
    draw_nuisances,
    draw_profiles,
    draw_transits,
    draw_truth,
)

__all__ = ["CONTAMINANTS", "draw_contaminants", "resolve_brightness"]

Float = NDArray[np.float64]

CONTAMINANTS = ("star", "quasar", "double_star", "star_galaxy", "smeared_star")
"""Kinds of sources other than galaxies."""

# Stars stand in or behind the Milky Way's dust: log-normal E(B-V), mag. Quasars as galaxies.
_STAR_EBV = (0.12, 1.0, 1.3)
_SEPARATION = (3.4, 17.0)
"""Of two sources, pixels of 59 mas: 0.2 to 1 arcsec."""
_POINT_LEVEL = 0.1
"""Errors of a point source's level over those of a galaxy's."""


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
    calibration = rng if scene.noise else None

    def disperse_stars() -> dict[str, Float]:
        median, scatter, most = _STAR_EBV
        teff = truth["teff"] = draw_temperatures(CHUNK, rng)
        strength = np.exp(rng.normal(0.0, 0.25, CHUNK))
        truth["ebv"] = np.minimum(rng.lognormal(np.log(median), scatter, CHUNK), most)
        return disperse_fluxes(
            lambda band: star_fluxes(teff, strength, getattr(instrument, band).wavelength),
            truth,
            parameters,
            calibration,
            instrument,
        )

    if kind == "quasar":
        quasars = draw_quasars(CHUNK, rng)
        truth["ebv"] = rng.lognormal(
            np.log(parameters.galactic_extinction_ebv_median),
            parameters.galactic_extinction_ebv_scatter,
            CHUNK,
        )
        truth["redshift_true"] = quasars["redshift"]
        point = disperse_fluxes(
            lambda band: quasar_fluxes(quasars, getattr(instrument, band).edges),
            truth,
            parameters,
            calibration,
            instrument,
        )
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
