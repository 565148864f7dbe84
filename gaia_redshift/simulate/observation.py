"""Observe sources: the steps from spectra in wavelength bins to coefficients in archive form.

Galaxies, user's spectra, stars and quasars share them, so that they differ in their spectra and
light profiles alone: Galactic extinction, calibration error, dispersion, smearing, neighbours,
shifts, background, noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.galaxies import GalaxyLibrary, load_library, redshift_spectra
from gaia_redshift.simulate.identity import give_source_ids
from gaia_redshift.simulate.instrument import BANDS, Instrument, load_instrument
from gaia_redshift.simulate.noise import SAMPLES_PER_TRANSIT, draw_noise
from gaia_redshift.simulate.profile import (
    PIXEL_MAS,
    constant_coefficients,
    displace_coefficients,
    shift_coefficients,
    smear_coefficients,
    take_background,
)
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.stars import star_fluxes
from gaia_redshift.simulate.survey import SurveyParameters
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = [
    "CHUNK",
    "Scene",
    "disperse_fluxes",
    "observe_sources",
    "point_source_coefficients",
    "smear_sources",
]

Float = NDArray[np.float64]
Truth = Mapping[str, NDArray[Any]]

CHUNK = 1000
"""Sources drawn from one random stream: results do not depend on the block size."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What sources are drawn from and observed with.

    ``survey`` is that of the galaxies, ``library`` that of their spectra (the package's where
    None); ``draw_flux(n, rng)`` gives the RP fluxes (n,), e-/s, of other sources; without ``noise``
    nothing disturbs a spectrum.
    """

    survey: Survey
    draw_flux: Callable[[int, np.random.Generator], Float]
    parameters: SurveyParameters
    instrument: Instrument
    library: GalaxyLibrary | None
    noise: bool


@functools.lru_cache(maxsize=8)
def _extinction_curves(rv: float, instrument: Instrument) -> dict[str, Float]:
    """A(lambda) per E(B-V) in the bands' bins, after Gordon et al. (2023)."""
    import astropy.units as u
    from dust_extinction.parameter_averages import G23

    law = G23(Rv=rv)
    return {
        band: rv * np.asarray(law(getattr(instrument, band).wavelength * u.nm)) for band in BANDS
    }


def disperse_fluxes(
    fluxes: Callable[[str], NDArray[np.floating]],
    truth: Truth,
    parameters: SurveyParameters,
    rng: np.random.Generator | None = None,
    instrument: Instrument | None = None,
) -> dict[str, Float]:
    """Redden and disperse spectra as points of an RP flux of 1 e-/s: coefficients (n, k) a band.

    ``fluxes`` gives for a band the flux density per wavelength in the instrument's bins, (n, m),
    any unit; ``truth`` holds ``ebv`` (n,), mag; ``rng`` draws the calibration error of each source,
    none without.
    """
    chosen = instrument or load_instrument()
    curves = _extinction_curves(parameters.galactic_extinction_r_v, chosen)
    ebv = np.asarray(truth["ebv"])
    observed = {}
    for band in BANDS:
        flux = fluxes(band)
        flux = flux * np.exp(np.multiply.outer(-0.4 * np.log(10) * ebv, curves[band]))
        if rng is not None:
            wavelength = getattr(chosen, band).wavelength
            flux *= _calibration_error(len(ebv), wavelength, parameters, rng)
        observed[band] = flux
    bp, rp = chosen.disperse(observed["bp"], observed["rp"])
    level = 1.0 / (rp @ chosen.rp.integral)
    return {"bp": bp * level[:, None], "rp": rp * level[:, None]}


def point_source_coefficients(
    truth: Truth,
    parameters: SurveyParameters,
    rng: np.random.Generator | None = None,
    library: GalaxyLibrary | None = None,
    instrument: Instrument | None = None,
) -> dict[str, Float]:
    """Return noise-free coefficients (n, k) a band of galaxies as points of an RP flux of 1 e-/s.

    ``truth`` is what `draw_truth` drew; ``rng`` draws the calibration error of each galaxy, none
    without.
    """
    chosen = library or load_library()
    through = instrument or load_instrument()

    def fluxes(band: str) -> NDArray[np.float32]:
        edges = getattr(through, band).edges
        return redshift_spectra(chosen, truth["galaxy"], truth["redshift_true"], edges)

    return disperse_fluxes(fluxes, truth, parameters, rng, through)


def _calibration_error(
    n: int, wavelength: Float, p: SurveyParameters, rng: np.random.Generator
) -> Float:
    """Smooth relative error of the flux calibration: a few cosines over the band."""
    phase = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) * np.pi
    waves = np.cos(np.multiply.outer(np.arange(1, 9), phase)) * np.sqrt(2.0 / 8.0)
    return 1.0 + rng.normal(0.0, p.calibration_error_shape, (n, 8)) @ waves


def smear_sources(
    point: Mapping[str, Float],
    truth: Truth,
    instrument: Instrument | None = None,
) -> dict[str, Float]:
    """Smear dispersed spectra, (n, k) a band, by their light profiles.

    The RP spectrum's integral over the window becomes ``rp_flux``, e-/s; points have a
    ``point_fraction`` of 1.
    """
    chosen = instrument or load_instrument()
    bp, rp = point["bp"], point["rp"]
    if np.any(truth["point_fraction"] < 1):
        round_radius = truth["radius_sersic"] * np.sqrt(1 - truth["ellipticity_sersic"])
        bp, rp = smear_coefficients(
            bp,
            rp,
            round_radius / PIXEL_MAS,
            truth["n_sersic"],
            truth["point_fraction"],
            instrument=chosen,
        )
        taken = truth["background_taken"] * (truth["point_fraction"] < 1)
        bp, rp = (take_background(c, taken, b, chosen) for c, b in ((bp, "bp"), (rp, "rp")))
    level = (truth["rp_flux"] / (rp @ chosen.rp.integral))[:, None]
    return {"bp": bp * level, "rp": rp * level}


def disturb_sources(
    clean: Mapping[str, Float],
    truth: Truth,
    parameters: SurveyParameters,
    instrument: Instrument,
) -> dict[str, Float]:
    """Add to spectra what `survey.draw_nuisances` drew: a neighbour, shift, background, level."""
    spectra = {band: np.array(clean[band]) for band in BANDS}
    blended = np.flatnonzero(truth["blend_flux"] > 0)
    if blended.size:
        part = {name: np.asarray(truth[name])[blended] for name in truth}
        star = disperse_fluxes(
            lambda band: star_fluxes(
                part["blend_teff"], np.ones(blended.size), getattr(instrument, band).wavelength
            ),
            part,
            parameters,
            instrument=instrument,
        )
        flux = (part["blend_flux"] * part["rp_flux"])[:, None]
        for band in BANDS:
            moved = displace_coefficients(star[band], part["blend_separation"], band, instrument)
            spectra[band][blended] += flux * moved
    for band in BANDS:
        moved = shift_coefficients(spectra[band], truth["shift"], band, instrument)
        moved += np.multiply.outer(
            truth[f"background_{band}"], constant_coefficients(band, instrument)
        )
        spectra[band] = moved * (1.0 + np.asarray(truth[f"level_error_{band}"]))[:, None]
    return spectra


def observe_sources(
    clean: Mapping[str, Float],
    truth: Truth,
    rng: np.random.Generator,
    *,
    parameters: SurveyParameters,
    columns: Mapping[str, tuple[str | None, str]],
    index: int,
    seed: int,
    kind: str,
    label: str,
    correlations: bool = True,
    noise: bool = True,
    instrument: Instrument | None = None,
) -> XPSpectra:
    """Disturb spectra, (n, k) a band in e-/s, add noise, and put them into the archive's form.

    Of ``truth`` those in ``columns`` (name to unit and description) go along; ``kind``, ``seed``
    and ``index`` of the chunk make the source_id; ``label`` says where the spectra came from.
    """
    from astropy.table import Table

    chosen = instrument or load_instrument()
    n = len(truth["rp_flux"])
    spectra = disturb_sources(clean, truth, parameters, chosen) if noise else dict(clean)
    table = Table({name: truth[name] for name in columns})
    for name, (unit, description) in columns.items():
        table[name].description = description
        if unit:
            table[name].unit = unit
    parts = {}
    for band in BANDS:
        transits = np.asarray(truth[f"transits_{band}"])
        published = chosen.publish(spectra[band], band)
        noisy, errors, triangle, deviation = draw_noise(
            published,
            transits,
            band,
            rng,
            level_sigma=truth[f"level_sigma_{band}"],
            error_scatter=parameters.published_error_scatter,
            correlations=correlations,
            instrument=chosen,
        )
        parts[band] = BandSpectra(
            coefficients=noisy if noise else published,
            errors=errors,
            correlations=triangle,
            n_coefficients=np.full(n, published.shape[1], dtype=np.int16),
            basis_id=np.full(n, getattr(chosen, band).basis_id or -1, dtype=np.int16),
        )
        table[f"{band}_n_measurements"] = transits.astype(np.int32) * SAMPLES_PER_TRANSIT
        table[f"{band}_standard_deviation"] = deviation.astype(np.float32)
    return XPSpectra(
        source_id=give_source_ids(kind, seed, index * CHUNK, n),
        bp=parts["bp"],
        rp=parts["rp"],
        columns=table,
        release="DR3" if chosen is load_instrument() else None,
        meta={"inputs": [label]},
    )
