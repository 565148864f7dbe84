"""Draw galaxies and observe them: `simulate_spectra` and its streaming form."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.simulate.galaxies import GalaxyLibrary, load_library, redshift_spectra
from gaia_redshift.simulate.instrument import Instrument, load_instrument
from gaia_redshift.simulate.observation import (
    CHUNK,
    assemble_blocks,
    check_numbers,
    disperse_fluxes,
    observe_sources,
    smear_sources,
)
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.survey import SurveyParameters, draw_truth, load_parameters
from gaia_redshift.spectra import XPSpectra

__all__ = ["TRUTH_COLUMNS", "SimulatedGalaxies", "simulate_blocks", "simulate_spectra"]

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
    survey: Any = "sdss",
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    instrument: Instrument | None = None,
    progress: bool = False,
) -> XPSpectra:
    """Simulate galaxies as Gaia DR3 would publish them.

    Parameters
    ----------
    n : int
        Number of galaxies.
    seed : int
        The same seed gives the same galaxies; the first of a longer run are those of a shorter.
    survey : {"sdss", "flat"}, Survey, callable or array-like
        Redshift distribution: the dissertation's SDSS galaxies, uniform from 0 to 0.6, a
        quantile function (uniform numbers -> redshifts), or a sample of redshifts to follow.
    correlations : bool
        Whether to work out the coefficients' correlations (24 kB a galaxy).
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
        With `TRUTH_COLUMNS` in ``columns``.

    Raises
    ------
    InputError
        If ``n`` is not positive or the survey is unknown.

    Notes
    -----
    Method: bagpipes galaxy spectra (Carnall et al. 2018), GaiaXPy's external calibration inverted
    (Montegriffo et al. 2023), smearing by the galaxy's profile, noise from transits, photons and
    read-out. See the documentation's page on the simulator.
    """
    blocks = simulate_blocks(
        n,
        seed=seed,
        survey=survey,
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
    survey: Any = "sdss",
    block_size: int = 10_000,
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
    instrument: Instrument | None = None,
    progress: bool = False,
) -> Iterator[XPSpectra]:
    """Simulate galaxies block by block, with memory that does not grow with n.

    Parameters
    ----------
    block_size : int
        Galaxies per block.
    n, seed, survey, correlations, noise, parameters, instrument, progress
        As for `simulate_spectra`.

    Yields
    ------
    XPSpectra
    """
    check_numbers(n, block_size, "galaxies")
    draw = functools.partial(
        simulate_chunk,
        seed=seed,
        survey=Survey.resolve(survey),
        correlations=correlations,
        noise=noise,
        parameters=parameters or load_parameters(),
        instrument=instrument or load_instrument(),
    )
    return assemble_blocks(
        n, block_size, draw, prepare=load_library, unit="galaxy", progress=progress
    )


def point_source_coefficients(
    truth: dict[str, NDArray[Any]],
    parameters: SurveyParameters,
    rng: np.random.Generator | None = None,
    library: GalaxyLibrary | None = None,
    instrument: Instrument | None = None,
) -> dict[str, NDArray[np.float64]]:
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


def simulate_chunk(
    index: int,
    *,
    seed: int,
    survey: Survey,
    correlations: bool,
    noise: bool,
    parameters: SurveyParameters,
    instrument: Instrument | None = None,
    library: GalaxyLibrary | None = None,
    kind: str = "galaxy",
    columns: Mapping[str, tuple[str | None, str]] = TRUTH_COLUMNS,
    label: str = "simulated galaxies",
) -> XPSpectra:
    """Draw and observe the galaxies of a chunk, of the package's library or another one."""
    rng = np.random.default_rng([seed, index])
    truth = draw_truth(CHUNK, rng, survey, parameters=parameters, library=library)
    truth["sed"] = truth["galaxy"].astype(np.int32)
    disturb = rng if noise else None
    point = point_source_coefficients(truth, parameters, disturb, library, instrument)
    return observe_sources(
        smear_sources(point, truth, instrument),
        truth,
        rng,
        parameters=parameters,
        columns=columns,
        index=index,
        seed=seed,
        kind=kind,
        label=f"{label}, seed {seed}, survey {survey.name}",
        correlations=correlations,
        noise=noise,
        instrument=instrument,
    )
