"""Stars and quasars as Gaia would observe them: what a galaxy's redshift must not be given to.

They go through the instrument and the noise of the simulated galaxies, with spectra made of
formulas (`gaia_redshift.simulate.stars`, `gaia_redshift.simulate.quasars`): single stars and
quasars, double stars, stars beside a galaxy, and, as the hardest test of whether a spectrum is
read, stars smeared like a galaxy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.generate import TRUTH_COLUMNS, point_source_coefficients
from gaia_redshift.simulate.instrument import BANDS, load_instrument
from gaia_redshift.simulate.observation import (
    CHUNK,
    assemble_blocks,
    check_numbers,
    disperse_fluxes,
    observe_sources,
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
    load_parameters,
)
from gaia_redshift.spectra import XPSpectra

__all__ = [
    "CONTAMINANTS",
    "CONTAMINANT_COLUMNS",
    "simulate_contaminant_blocks",
    "simulate_contaminants",
]

Float = NDArray[np.float64]

CONTAMINANTS = ("star", "quasar", "double_star", "star_galaxy", "smeared_star")
"""Kinds of sources other than galaxies."""

CONTAMINANT_COLUMNS = {
    **TRUTH_COLUMNS,
    "redshift_true": ("", "true redshift of the simulated source; 0 for stars"),
    "type": (None, "kind of the simulated source"),
    "teff": ("K", "effective temperature of the simulated star; NaN for a quasar"),
}
"""Truth columns of simulated stars and quasars: those of galaxies, and the temperature."""

# Stars stand in or behind the Milky Way's dust: log-normal E(B-V), mag. Quasars as galaxies.
_STAR_EBV = (0.12, 1.0, 1.3)
_SEPARATION = (3.4, 17.0)
"""Of two sources, pixels of 59 mas: 0.2 to 1 arcsec."""
_POINT_LEVEL = 0.1
"""Errors of a point source's level over those of a galaxy's."""


def simulate_contaminants(
    n: int,
    *,
    kind: str = "star",
    seed: int,
    brightness: str | ArrayLike | Callable[[Float], Float] = "galaxies",
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    progress: bool = False,
) -> XPSpectra:
    """Simulate stars or quasars as Gaia DR3 would publish them.

    Parameters
    ----------
    n : int
        Number of sources.
    kind : {"star", "quasar", "double_star", "star_galaxy", "smeared_star"}
        Stars of 2,800 to 30,000 K with extinctions up to 4 mag; quasars at redshifts 0 to 4.5;
        double stars, 0.2 to 1 arcsec apart; stars with a galaxy of up to their own flux within 1
        arcsec; stars with the light profile of a galaxy.
    seed : int
        The same seed gives the same sources; the first of a longer run are those of a shorter.
    brightness : {"galaxies"}, array-like or callable
        Photometric RP flux (e-/s): as the galaxies of the survey "sdss" have it, a sample to
        follow, or a quantile function (uniform numbers -> fluxes).
    correlations, noise, parameters, progress
        As for `gaia_redshift.simulate_spectra`.

    Returns
    -------
    XPSpectra
        With ``CONTAMINANT_COLUMNS`` in ``columns``.

    Raises
    ------
    InputError
        If ``n`` is not positive, the kind unknown, or a brightness not positive.
    """
    blocks = simulate_contaminant_blocks(
        n,
        kind=kind,
        seed=seed,
        brightness=brightness,
        correlations=correlations,
        noise=noise,
        parameters=parameters,
        progress=progress,
    )
    return XPSpectra.concatenate(list(blocks))


def simulate_contaminant_blocks(
    n: int,
    *,
    kind: str = "star",
    seed: int,
    brightness: str | ArrayLike | Callable[[Float], Float] = "galaxies",
    block_size: int = 10_000,
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    progress: bool = False,
) -> Iterator[XPSpectra]:
    """Simulate stars or quasars block by block, with memory that does not grow with n.

    Parameters
    ----------
    block_size : int
        Sources per block.
    n, kind, seed, brightness, correlations, noise, parameters, progress
        As for `simulate_contaminants`.

    Yields
    ------
    XPSpectra
    """
    if kind not in CONTAMINANTS:
        raise InputError(f"unknown kind '{kind}': choose from {', '.join(CONTAMINANTS)}")
    check_numbers(n, block_size, f"{kind}s")
    p = parameters or load_parameters()
    draw = functools.partial(
        _simulate_chunk,
        kind=kind,
        seed=seed,
        draw_flux=_resolve_brightness(brightness, p),
        correlations=correlations,
        noise=noise,
        parameters=p,
    )
    return assemble_blocks(n, block_size, draw, unit=kind, progress=progress)


def _resolve_brightness(
    brightness: Any, p: SurveyParameters
) -> Callable[[int, np.random.Generator], Float]:
    if isinstance(brightness, str):
        if brightness != "galaxies":
            raise InputError(
                f"unknown brightness '{brightness}': it is 'galaxies', a sample of RP fluxes"
                " (e-/s) or a function from uniform numbers to fluxes"
            )
        survey = Survey.resolve("sdss")
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


def _simulate_chunk(
    index: int,
    *,
    kind: str,
    seed: int,
    draw_flux: Callable[[int, np.random.Generator], Float],
    correlations: bool,
    noise: bool,
    parameters: SurveyParameters,
) -> XPSpectra:
    # Streams of their own: a star and a galaxy of the same seed have nothing in common.
    rng = np.random.default_rng([seed, index, CONTAMINANTS.index(kind) + 1])
    instrument = load_instrument()
    truth: dict[str, NDArray[Any]] = {
        "type": np.full(CHUNK, kind),
        "redshift_true": np.zeros(CHUNK),
        "radius_sersic": np.zeros(CHUNK),
        "n_sersic": np.ones(CHUNK),
        "ellipticity_sersic": np.zeros(CHUNK),
        "point_fraction": np.ones(CHUNK),
        "background_taken": np.zeros(CHUNK),
        "rp_flux": draw_flux(CHUNK, rng),
        "teff": np.full(CHUNK, np.nan),
        **draw_transits(CHUNK, rng, parameters),
        **draw_nuisances(CHUNK, rng, parameters),
    }
    truth["blend_flux"] = np.zeros(CHUNK)
    if kind == "smeared_star":
        z = Survey.resolve("sdss").quantile(rng.uniform(size=CHUNK))
        truth |= draw_profiles(z, np.ones(CHUNK, dtype=bool), rng, parameters)
    else:  # a point's level hardly depends on the scan angle
        for name in ("level_error_bp", "level_error_rp", "level_sigma_bp", "level_sigma_rp"):
            truth[name] = truth[name] * _POINT_LEVEL
    calibration = rng if noise else None

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
        )
    else:
        second = disperse_stars() if kind == "double_star" else None
        point = disperse_stars()
        if kind == "star_galaxy":
            galaxies = draw_truth(CHUNK, rng, Survey.resolve("sdss"), parameters=parameters)
            galaxies["rp_flux"] = np.ones(CHUNK)
            light = point_source_coefficients(galaxies, parameters)
            second = smear_sources(light, galaxies)
        if second is not None:
            ratio = rng.uniform(0.1, 1.0, CHUNK)
            separation = rng.uniform(*_SEPARATION, CHUNK)
            for band in BANDS:
                beside = displace_coefficients(second[band], separation, band)
                point[band] = point[band] + ratio[:, None] * beside
    return observe_sources(
        smear_sources(point, truth),
        truth,
        rng,
        parameters=parameters,
        columns=CONTAMINANT_COLUMNS,
        index=index,
        seed=seed,
        kind=kind,
        label=f"simulated {kind.replace('_', ' ')}s, seed {seed}",
        correlations=correlations,
        noise=noise,
    )
