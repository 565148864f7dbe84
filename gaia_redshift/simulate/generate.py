"""Draw sources and observe them: `simulate_spectra`, its streaming form, and `simulate_seds`.

A `Kind` says how a chunk of sources is drawn and what light they send; all else is one way for
galaxies, spectra of the user's, stars, quasars and doubles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._display import open_bar
from gaia_redshift._quiet import preserve_settings
from gaia_redshift._threads import map_ahead
from gaia_redshift.errors import InputError
from gaia_redshift.simulate.contaminants import (
    CONTAMINANTS,
    draw_contaminants,
    resolve_brightness,
)
from gaia_redshift.simulate.galaxies import GIVEN, load_library, make_library
from gaia_redshift.simulate.instrument import Instrument, load_instrument
from gaia_redshift.simulate.noise import observe_sources
from gaia_redshift.simulate.observation import (
    CHUNK,
    Scene,
    give_source_ids,
    point_source_coefficients,
    smear_sources,
)
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.survey import SurveyParameters, draw_truth, load_parameters
from gaia_redshift.spectra import XPSpectra

__all__ = [
    "KINDS",
    "TRUTH_COLUMNS",
    "Kind",
    "SimulatedGalaxies",
    "simulate_blocks",
    "simulate_seds",
    "simulate_spectra",
]

Float = NDArray[np.float64]
Columns = Mapping[str, tuple[str | None, str]]
Draw = Callable[
    [np.random.Generator, Scene], tuple[dict[str, NDArray[Any]], Mapping[str, NDArray[Any]]]
]

TRUTH_COLUMNS = {
    "redshift_true": ("", "true redshift of the simulated galaxy"),
    "type": (None, "type of the simulated galaxy"),
    "radius_sersic": ("mas", "effective radius of the light profile along its major axis"),
    "n_sersic": ("", "Sersic index of the light profile"),
    "ellipticity_sersic": ("", "ellipticity of the light profile"),
    "point_fraction": ("", "part of the light in a compact core beside the profile"),
    "rp_flux": ("electron / s", "photometric RP flux: integral of the spectrum over the window"),
    "ebv": ("mag", "Galactic reddening E(B-V)"),
    "transits_bp": ("", "transits in the BP mean spectrum"),
    "transits_rp": ("", "transits in the RP mean spectrum"),
    "blend_flux": ("", "RP flux of a star in the window over the galaxy's, 0 without one"),
}
"""Truth columns of simulated spectra: unit and meaning."""
_OTHER_COLUMNS = {
    **TRUTH_COLUMNS,
    "redshift_true": ("", "true redshift of the simulated source; 0 for stars"),
    "type": (None, "kind of the simulated source"),
    "teff": ("K", "effective temperature of the simulated star; NaN for a quasar"),
}
_SED_COLUMNS = {
    **TRUTH_COLUMNS,
    "type": (None, "always sed: a spectrum that the user gave"),
    "sed": ("", "row of the spectrum among those given"),
}
_ALL_TYPES = 0.03
"""Added, dex, to the scatter of colour within the quiescent types, for all types together."""


@dataclass(frozen=True)
class Kind:
    """A kind of source that can be simulated.

    ``draw`` gives a chunk's properties and light, coefficients (n, k) a band; ``columns`` are the
    properties that spectra come with; ``stream`` ends the seeds of random numbers, so that a star
    and a galaxy of the same seed have nothing in common.
    """

    name: str
    plural: str
    draw: Draw
    columns: Columns
    stream: tuple[int, ...] = ()


def _draw_galaxies(
    rng: np.random.Generator, scene: Scene
) -> tuple[dict[str, NDArray[Any]], dict[str, Float]]:
    parameters, library, instrument = scene.parameters, scene.library, scene.instrument
    truth = draw_truth(CHUNK, rng, scene.survey, parameters=parameters, library=library)
    truth["sed"] = truth["galaxy"].astype(np.int32)
    disturb = rng if scene.noise else None
    point = point_source_coefficients(truth, parameters, disturb, library, instrument)
    return truth, smear_sources(point, truth, instrument)


_PLURALS = {"star_galaxy": "stars beside galaxies"}

KINDS = {"galaxy": Kind("galaxy", "galaxies", _draw_galaxies, TRUTH_COLUMNS)} | {
    name: Kind(
        name,
        _PLURALS.get(name, f"{name.replace('_', ' ')}s"),
        partial(draw_contaminants, name),
        _OTHER_COLUMNS,
        (number,),
    )
    for number, name in enumerate(CONTAMINANTS, start=1)
}
"""What `simulate_spectra` simulates, by name."""


@dataclass(frozen=True)
class SimulatedGalaxies:
    """Galaxies to be simulated for a training, a source for `gaia_redshift.train.train_model`.

    Parameters
    ----------
    n : int
        How many.
    survey : str
        Redshift distribution, see `gaia_redshift.simulate_spectra`.
    seed : int
        Of the simulation.
    sky : str
        Population, a name in ``gaia_redshift.simulate.survey.SKIES``: "sdss", "wide" or "mixed".
    contaminants : float
        Stars, quasars, doubles and so on for each galaxy, from which a network that can learns to
        tell galaxies.
    """

    n: int
    survey: str = "sdss"
    seed: int = 1
    sky: str = "sdss"
    contaminants: float = 0.0


@preserve_settings()
def simulate_spectra(
    n: int,
    *,
    seed: int,
    kind: str = "galaxy",
    survey: Any = "sdss",
    brightness: str | ArrayLike | Callable[[Float], Float] = "galaxies",
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    instrument: Instrument | None = None,
    progress: bool = False,
) -> XPSpectra:
    """Simulate galaxies, or stars and quasars, as Gaia DR3 would publish them.

    Parameters
    ----------
    n : int
        Number of sources.
    seed : int
        The same seed gives the same sources; the first of a longer run are those of a shorter.
    kind : {"galaxy", "star", "quasar", "double_star", "star_galaxy", "smeared_star"}
        Galaxies; stars of 2,800 to 30,000 K with extinctions up to 4 mag; quasars at redshifts 0 to
        4.5; double stars, 0.2 to 1 arcsec apart; stars with a galaxy of up to their own flux within
        1 arcsec; stars with the light profile of a galaxy.
    survey : {"sdss", "flat", "mixed"}, Survey, callable or array-like
        Redshift distribution of the galaxies: the dissertation's SDSS galaxies (the default),
        uniform from 0 to 0.6, both mixed, a quantile function (uniform numbers -> redshifts), or a
        sample of redshifts to follow. Stars and quasars have the brightness of such galaxies.
    brightness : {"galaxies"}, array-like or callable
        Photometric RP flux (e-/s) of other kinds than galaxies: as the survey's galaxies have it, a
        sample to follow, or a quantile function (uniform numbers -> fluxes).
    correlations : bool
        Whether to work out the coefficients' correlations (24 kB a source).
    noise : bool
        False leaves out noise and all that disturbs a spectrum (calibration and background errors,
        shifts, neighbours); errors are those it would have had.
    parameters : SurveyParameters, optional
        Another population than the package's own.
    instrument : Instrument, optional
        Another instrument or set of bases than DR3's:
        `gaia_redshift.simulate.instrument.load_instrument`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    XPSpectra
        With `TRUTH_COLUMNS` in ``columns``; of other kinds than galaxies with ``teff``, too.

    Raises
    ------
    InputError
        If ``n`` is not positive, the kind or survey is unknown, or a brightness is not positive.

    Notes
    -----
    Method: bagpipes galaxy spectra (Carnall et al. 2018), stars and quasars made of formulas,
    GaiaXPy's external calibration inverted (Montegriffo et al. 2023), smearing by the galaxy's
    profile, noise from transits, photons and read-out. See the documentation's page on the
    simulator.
    """
    blocks = simulate_blocks(
        n,
        seed=seed,
        kind=kind,
        survey=survey,
        brightness=brightness,
        correlations=correlations,
        noise=noise,
        parameters=parameters,
        instrument=instrument,
        progress=progress,
    )
    return XPSpectra.concatenate(list(blocks))


def simulate_blocks(
    n: int,
    *,
    seed: int,
    kind: str = "galaxy",
    survey: Any = "sdss",
    brightness: str | ArrayLike | Callable[[Float], Float] = "galaxies",
    block_size: int = 10_000,
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    instrument: Instrument | None = None,
    progress: bool = False,
) -> Iterator[XPSpectra]:
    """Simulate sources block by block, with memory that does not grow with n.

    Parameters
    ----------
    block_size : int
        Sources per block.
    n, seed, kind, survey, brightness, correlations, noise, parameters, instrument, progress
        As for `simulate_spectra`.

    Yields
    ------
    XPSpectra
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind '{kind}': choose from {', '.join(KINDS)}")
    if kind == "galaxy" and not isinstance(brightness, str):
        raise InputError("the brightness of galaxies is that of the survey; give parameters")
    chosen, p = Survey.resolve(survey), parameters or load_parameters()
    draw_flux = resolve_brightness(brightness, chosen, p)
    scene = Scene(chosen, draw_flux, p, instrument or load_instrument(), None, noise)
    return _simulate(
        KINDS[kind], n, block_size, scene, seed=seed, correlations=correlations, progress=progress
    )


@preserve_settings()
def simulate_seds(
    wavelength_A: ArrayLike,
    flux_lambda: ArrayLike,
    n: int,
    *,
    seed: int,
    survey: Any = "sdss",
    colours: bool = False,
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    progress: bool = False,
) -> XPSpectra:
    """Simulate galaxies that have the given rest-frame spectra.

    A network that learned from one set of model galaxies should know those of another as well.
    Redshifts, brightness, light profiles, extinction, transits, instrument and noise are those of
    `gaia_redshift.simulate_spectra`.

    Parameters
    ----------
    wavelength_A : array-like, shape (m,), A
        Rising rest-frame wavelengths. Redshifts from 0 to 0.6 need 2,009 to 10,845 A.
    flux_lambda : array-like, shape (k, m) or (m,)
        Flux density per wavelength of each spectrum, any unit, not negative.
    colours : bool
        Draw the spectra so that the galaxies have the colours of real ones at their redshifts,
        which takes many spectra of different colours; without it all are equally likely.
    n, seed, survey, correlations, noise, parameters, progress
        As for `gaia_redshift.simulate_spectra`.

    Returns
    -------
    XPSpectra
        Truth in ``columns``, with the row of the spectrum as ``sed``.

    Raises
    ------
    InputError
        If shapes disagree, a spectrum is negative or empty, or the wavelengths do not reach.
    """
    library, p = make_library(wavelength_A, flux_lambda), parameters or load_parameters()
    scatter = np.hypot(p.colour_scatter, _ALL_TYPES) if colours else np.inf
    chosen = Survey.resolve(survey)
    plain = dataclasses.replace(
        p,
        type_fractions=p.type_fractions | {GIVEN: np.ones_like(p.redshift_knots)},
        colour_active_offset=0.0,
        colour_active_factor=1.0,
        colour_scatter=np.broadcast_to(scatter, p.colour_scatter.shape),
    )
    draw_flux = resolve_brightness("galaxies", chosen, plain)
    scene = Scene(chosen, draw_flux, plain, load_instrument(), library, noise)
    kind = Kind("sed", "galaxies with given spectra", _draw_galaxies, _SED_COLUMNS)
    blocks = _simulate(
        kind, n, max(n, 1), scene, seed=seed, correlations=correlations, progress=progress
    )
    return XPSpectra.concatenate(list(blocks))


def _simulate(
    kind: Kind,
    n: int,
    block_size: int,
    scene: Scene,
    *,
    seed: int,
    correlations: bool,
    progress: bool,
) -> Iterator[XPSpectra]:
    """Check the numbers, and return blocks of a kind."""
    if n < 1:
        raise InputError(f"the number of {kind.plural} must be positive, not {n}")
    if block_size < 1:
        raise InputError(f"the block size must be positive, not {block_size}")
    label = f"simulated {kind.plural}, seed {seed}"
    if kind.draw is _draw_galaxies:
        label += f", survey {scene.survey.name}"
        # Before two threads ask for them at once.
        (scene.library or load_library()).cumulative(slice(0, 1))

    def make_chunk(index: int) -> XPSpectra:
        rng = np.random.default_rng([seed, index, *kind.stream])
        truth, light = kind.draw(rng, scene)
        spectra = observe_sources(
            light,
            truth,
            rng,
            scene.parameters,
            columns=kind.columns,
            source_id=give_source_ids(kind.name, seed, index * CHUNK, CHUNK),
            label=label,
            correlations=correlations,
            noise=scene.noise,
            instrument=scene.instrument,
        )
        return spectra[: n - index * CHUNK]

    return _join_chunks(make_chunk, n, block_size, unit=kind.name, progress=progress)


def _join_chunks(
    make_chunk: Callable[[int], XPSpectra], n: int, block_size: int, *, unit: str, progress: bool
) -> Iterator[XPSpectra]:
    """Make chunks in two threads, a few ahead and never all of them, and join them to blocks."""
    waiting: list[XPSpectra] = []
    numbers = range(-(-n // CHUNK))
    with (
        open_bar(total=n, unit=unit, unit_scale=True, disable=not progress) as bar,
        closing(map_ahead(make_chunk, numbers, n_threads=2, ahead=3)) as chunks,
    ):
        for chunk in chunks:
            bar.update(len(chunk))
            waiting.append(chunk)
            if sum(map(len, waiting)) >= block_size:
                *blocks, last = XPSpectra.concatenate(waiting).blocks(block_size)
                yield from blocks
                waiting = [last]
                if len(last) == block_size:
                    yield last
                    waiting = []
        if waiting:
            yield XPSpectra.concatenate(waiting)
