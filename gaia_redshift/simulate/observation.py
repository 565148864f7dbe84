"""What all simulated sources share: their ids, and the way from their spectra to coefficients.

Galaxies, user's spectra, stars and quasars differ in their spectra and light profiles alone:
Galactic extinction, calibration error, dispersion and smearing are here, neighbours, shifts,
background and noise in `gaia_redshift.simulate.noise`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.galaxies import GalaxyLibrary, load_library, redshift_spectra
from gaia_redshift.simulate.instrument import BANDS, Instrument, load_instrument
from gaia_redshift.simulate.profile import PIXEL_MAS, smear_coefficients, take_background
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.survey import SurveyParameters

__all__ = [
    "CHUNK",
    "FIRST_SOURCE_ID",
    "Scene",
    "are_simulated",
    "disperse_fluxes",
    "find_seeds",
    "give_source_ids",
    "point_source_coefficients",
    "smear_sources",
]

Float = NDArray[np.float64]
Truth = Mapping[str, NDArray[Any]]

CHUNK = 1000
"""Sources drawn from one random stream: results do not depend on the block size."""
FIRST_SOURCE_ID = 7_000_000_000_000_000_000
"""Above every real Gaia source_id (HEALPix level 12 ends at 6.917e18): simulated ids stand out."""
_KINDS = ("galaxy", "star", "quasar", "sed", "double_star", "smeared_star", "star_galaxy")
"""What can be simulated; a source_id says which, and the seed that it was drawn with."""
_OF_A_KIND, _OF_A_SEED = 1_000_000_000_000_000, 10_000_000_000
_SEEDS = 10_000


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


def give_source_ids(kind: str, seed: int, first: int, n: int) -> NDArray[np.int64]:
    """Return the source_ids of ``n`` sources of a kind and seed, the first one's number given."""
    start = FIRST_SOURCE_ID + _KINDS.index(kind) * _OF_A_KIND + (seed % _SEEDS) * _OF_A_SEED + first
    return start + np.arange(n, dtype=np.int64)


def are_simulated(source_id: Any) -> bool:
    """Whether there are ids (shape (n,)) and all are of the simulator's; masked ones are not."""
    ids = np.ma.filled(np.ma.asarray(source_id), 0)
    return len(ids) > 0 and ids.dtype.kind in "iu" and bool((ids >= FIRST_SOURCE_ID).all())


def find_seeds(source_id: NDArray[np.int64]) -> list[int]:
    """Return the seeds, modulo 10,000, of the simulated galaxies among these ids, shape (n,)."""
    rest = source_id[source_id >= FIRST_SOURCE_ID] - FIRST_SOURCE_ID
    galaxies = rest[rest < _OF_A_KIND]
    return [int(seed) for seed in np.unique(galaxies // _OF_A_SEED % _SEEDS)]
