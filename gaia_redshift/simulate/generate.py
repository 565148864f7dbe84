"""Draw galaxies and observe them: `simulate_spectra` and its streaming form."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import load_library, redshift_spectra
from gaia_redshift.simulate.instrument import BANDS, N_BASES, WINDOW, load_instrument
from gaia_redshift.simulate.noise import SAMPLES_PER_TRANSIT, draw_noise
from gaia_redshift.simulate.profile import load_profile_maps, smear_coefficients
from gaia_redshift.simulate.survey import Survey, SurveyParameters, draw_truth, load_parameters
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["FIRST_SOURCE_ID", "TRUTH_COLUMNS", "simulate_blocks", "simulate_spectra"]

CHUNK = 1000
"""Galaxies drawn from one random stream: results do not depend on the block size."""
FIRST_SOURCE_ID = 7_000_000_000_000_000_000
"""Above every real Gaia source_id (HEALPix level 12 ends at 6.917e18): simulated ids stand out."""
_BASIS_ID = {"bp": 56, "rp": 57}

TRUTH_COLUMNS = {
    "redshift_true": ("", "true redshift of the simulated galaxy"),
    "type": (None, "type of the simulated galaxy"),
    "profile_scale": ("pix", "along-scan exponential scale of the light profile (59 mas pixels)"),
    "point_fraction": ("", "part of the light in the compact core"),
    "rp_flux": ("electron / s", "mean RP flux before losses outside the window"),
    "ebv": ("mag", "Galactic reddening E(B-V)"),
    "transits_bp": ("", "transits in the BP mean spectrum"),
    "transits_rp": ("", "transits in the RP mean spectrum"),
}
"""Truth columns of simulated spectra: unit and meaning."""


def simulate_spectra(
    n: int,
    *,
    seed: int,
    survey: Any = "sdss",
    correlations: bool = True,
    noise: bool = True,
    parameters: SurveyParameters | None = None,
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
        False leaves noise and calibration errors out; errors are those it would have had.
    parameters : SurveyParameters, optional
        Another population than the package's own.
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
    progress: bool = False,
) -> Iterator[XPSpectra]:
    """Simulate galaxies block by block, with memory that does not grow with n.

    Parameters
    ----------
    block_size : int
        Galaxies per block.
    n, seed, survey, correlations, noise, parameters, progress
        As for `simulate_spectra`.

    Yields
    ------
    XPSpectra
    """
    if n < 1:
        raise InputError(f"the number of galaxies must be positive, not {n}")
    if block_size < 1:
        raise InputError(f"the block size must be positive, not {block_size}")
    chosen = Survey.resolve(survey)
    draw = functools.partial(
        _simulate_chunk,
        seed=seed,
        survey=chosen,
        correlations=correlations,
        noise=noise,
        parameters=parameters or load_parameters(),
    )
    return _assemble(n, block_size, draw, progress)


def _assemble(n: int, block_size: int, draw: Any, progress: bool) -> Iterator[XPSpectra]:
    from tqdm import tqdm

    load_library()  # before the threads ask for them
    load_profile_maps()
    starts = range(0, n, CHUNK)
    waiting: list[XPSpectra] = []
    held = 0
    with (
        ThreadPoolExecutor(max_workers=2) as pool,
        tqdm(total=n, unit="galaxy", unit_scale=True, disable=not progress) as bar,
    ):
        # A few chunks ahead, never all of them: memory stays flat.
        ahead: list[Any] = []
        todo = iter(starts)
        for start in todo:
            ahead.append(pool.submit(draw, start // CHUNK, min(CHUNK, n - start)))
            if len(ahead) == 4:
                break
        while ahead:
            chunk = ahead.pop(0).result()
            nxt = next(todo, None)
            if nxt is not None:
                ahead.append(pool.submit(draw, nxt // CHUNK, min(CHUNK, n - nxt)))
            bar.update(len(chunk))
            waiting.append(chunk)
            held += len(chunk)
            if held >= block_size or not ahead:
                joined = XPSpectra.concatenate(waiting)
                waiting, held = [], 0
                for block in joined.blocks(block_size):
                    if len(block) == block_size or not ahead:
                        yield block
                    else:
                        waiting, held = [block], len(block)


@functools.lru_cache(maxsize=1)
def _extinction_curves(rv: float) -> dict[str, NDArray[np.float64]]:
    """A(lambda) per E(B-V) in the bands' bins, after Gordon et al. (2023)."""
    import astropy.units as u
    from dust_extinction.parameter_averages import G23

    law = G23(Rv=rv)
    return {
        band: rv * np.asarray(law(getattr(load_instrument(), band).wavelength * u.nm))
        for band in BANDS
    }


def point_source_coefficients(
    truth: dict[str, NDArray[Any]],
    parameters: SurveyParameters,
    rng: np.random.Generator | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Noise-free coefficients of galaxies as if they were points, scaled to ``rp_flux``.

    Parameters
    ----------
    truth : dict
        What `gaia_redshift.simulate.survey.draw_truth` drew.
    parameters : SurveyParameters
    rng : numpy.random.Generator, optional
        Draws the calibration error of each galaxy; none without it.

    Returns
    -------
    dict of ndarray, shape (n, 55), e-/s
    """
    library, instrument = load_library(), load_instrument()
    curves = _extinction_curves(parameters.ebv_rv)
    n = len(truth["galaxy"])
    fluxes = {}
    for band in BANDS:
        part = getattr(instrument, band)
        flux = redshift_spectra(library, truth["galaxy"], truth["redshift_true"], part.edges)
        flux = flux * np.exp(np.multiply.outer(-0.4 * np.log(10) * truth["ebv"], curves[band]))
        if rng is not None:
            flux *= _calibration_error(n, part.wavelength, parameters, rng)
        fluxes[band] = flux
    bp, rp = instrument.disperse(fluxes["bp"], fluxes["rp"])
    level = truth["rp_flux"] / (rp @ _window_mean())
    return {"bp": bp * level[:, None], "rp": rp * level[:, None]}


@functools.lru_cache(maxsize=1)
def _window_mean() -> NDArray[np.float64]:
    """Mean over the RP window of each basis function."""
    part = load_instrument().rp
    inside = (part.position >= WINDOW[0]) & (part.position <= WINDOW[1])
    return part.bases[:, inside].mean(axis=1)


def _calibration_error(
    n: int, wavelength: NDArray[np.float64], p: SurveyParameters, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth relative error of the flux calibration: a few cosines over the band and a level."""
    phase = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) * np.pi
    waves = np.cos(np.multiply.outer(np.arange(1, 9), phase)) * np.sqrt(2.0 / 8.0)
    shape = rng.normal(0.0, p.calibration_shape, (n, 8)) @ waves
    return 1.0 + shape + rng.normal(0.0, p.calibration_level, (n, 1))


def _simulate_chunk(
    index: int,
    size: int,
    *,
    seed: int,
    survey: Survey,
    correlations: bool,
    noise: bool,
    parameters: SurveyParameters,
) -> XPSpectra:
    from astropy.table import Table

    # A whole chunk is always drawn, so that a shorter run is a part of a longer one.
    rng = np.random.default_rng([seed, index])
    truth = draw_truth(CHUNK, rng, survey, parameters=parameters)
    point = point_source_coefficients(truth, parameters, rng if noise else None)
    smeared = dict(
        zip(
            BANDS,
            smear_coefficients(
                point["bp"], point["rp"], truth["profile_scale"], truth["point_fraction"]
            ),
            strict=True,
        )
    )
    parts = {}
    for band in BANDS:
        transits = truth[f"transits_{band}"]
        noisy, errors, triangle = draw_noise(
            smeared[band], transits, band, rng, correlations=correlations
        )
        parts[band] = BandSpectra(
            coefficients=noisy if noise else smeared[band],
            errors=errors,
            correlations=triangle,
            n_coefficients=np.full(CHUNK, N_BASES, dtype=np.int16),
            basis_id=np.full(CHUNK, _BASIS_ID[band], dtype=np.int16),
        )
    columns = Table({name: truth[name] for name in TRUTH_COLUMNS})
    for name, (unit, description) in TRUTH_COLUMNS.items():
        columns[name].description = description
        if unit:
            columns[name].unit = unit
    for band in BANDS:
        columns[f"{band}_n_measurements"] = (
            truth[f"transits_{band}"].astype(np.int32) * SAMPLES_PER_TRANSIT
        )
    spectra = XPSpectra(
        source_id=FIRST_SOURCE_ID
        + np.int64(seed % 10_000) * 10_000_000_000
        + index * CHUNK
        + np.arange(CHUNK, dtype=np.int64),
        bp=parts["bp"],
        rp=parts["rp"],
        columns=columns,
        release="DR3",
        meta={"inputs": [f"simulated galaxies, seed {seed}, survey {survey.name}"]},
    )
    return spectra if size == CHUNK else spectra[:size]
