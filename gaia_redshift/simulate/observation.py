"""Observe sources: the steps from spectra in wavelength bins to coefficients in archive form.

Galaxies, user's spectra, stars and quasars share them, so that they differ in their spectra and
light profiles alone: Galactic extinction, calibration error, dispersion, smearing, noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.instrument import BANDS, N_BASES, WINDOW, load_instrument
from gaia_redshift.simulate.noise import SAMPLES_PER_TRANSIT, draw_noise
from gaia_redshift.simulate.profile import load_profile_maps, smear_coefficients
from gaia_redshift.simulate.survey import SurveyParameters
from gaia_redshift.spectra import BandSpectra, XPSpectra

__all__ = ["CHUNK", "FIRST_SOURCE_ID", "KINDS", "disperse_fluxes", "observe_sources"]

Float = NDArray[np.float64]
Truth = Mapping[str, NDArray[Any]]

CHUNK = 1000
"""Sources drawn from one random stream: results do not depend on the block size."""
FIRST_SOURCE_ID = 7_000_000_000_000_000_000
"""Above every real Gaia source_id (HEALPix level 12 ends at 6.917e18): simulated ids stand out."""
KINDS = ("galaxy", "star", "quasar", "sed")
"""What can be simulated; each kind has source_ids of its own."""
_BASIS_ID = {"bp": 56, "rp": 57}


@functools.lru_cache(maxsize=1)
def _extinction_curves(rv: float) -> dict[str, Float]:
    """A(lambda) per E(B-V) in the bands' bins, after Gordon et al. (2023)."""
    import astropy.units as u
    from dust_extinction.parameter_averages import G23

    law = G23(Rv=rv)
    return {
        band: rv * np.asarray(law(getattr(load_instrument(), band).wavelength * u.nm))
        for band in BANDS
    }


def disperse_fluxes(
    fluxes: Callable[[str], NDArray[np.floating]],
    truth: Truth,
    parameters: SurveyParameters,
    rng: np.random.Generator | None = None,
) -> dict[str, Float]:
    """Redden and disperse spectra as if they were points, scaled to ``rp_flux``.

    Parameters
    ----------
    fluxes : callable
        For a band ("bp" or "rp") the flux density per wavelength in the instrument's bins, shape
        (n, m), any unit.
    truth : mapping
        ``ebv`` (mag) and ``rp_flux`` (e-/s), shape (n,).
    parameters : SurveyParameters
    rng : numpy.random.Generator, optional
        Draws the calibration error of each source; none without it.

    Returns
    -------
    dict of ndarray, shape (n, 55), e-/s
    """
    instrument = load_instrument()
    curves = _extinction_curves(parameters.ebv_rv)
    n = len(truth["rp_flux"])
    observed = {}
    for band in BANDS:
        part = getattr(instrument, band)
        flux = fluxes(band)
        flux = flux * np.exp(np.multiply.outer(-0.4 * np.log(10) * truth["ebv"], curves[band]))
        if rng is not None:
            flux *= _calibration_error(n, part.wavelength, parameters, rng)
        observed[band] = flux
    bp, rp = instrument.disperse(observed["bp"], observed["rp"])
    level = truth["rp_flux"] / (rp @ _window_mean())
    return {"bp": bp * level[:, None], "rp": rp * level[:, None]}


@functools.lru_cache(maxsize=1)
def _window_mean() -> Float:
    """Mean over the RP window of each basis function."""
    part = load_instrument().rp
    inside = (part.position >= WINDOW[0]) & (part.position <= WINDOW[1])
    return part.bases[:, inside].mean(axis=1)


def _calibration_error(
    n: int, wavelength: Float, p: SurveyParameters, rng: np.random.Generator
) -> Float:
    """Smooth relative error of the flux calibration: a few cosines over the band and a level."""
    phase = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) * np.pi
    waves = np.cos(np.multiply.outer(np.arange(1, 9), phase)) * np.sqrt(2.0 / 8.0)
    shape = rng.normal(0.0, p.calibration_shape, (n, 8)) @ waves
    return 1.0 + shape + rng.normal(0.0, p.calibration_level, (n, 1))


def observe_sources(
    point: dict[str, Float],
    truth: Truth,
    rng: np.random.Generator,
    *,
    columns: Mapping[str, tuple[str | None, str]],
    index: int,
    seed: int,
    kind: str,
    label: str,
    extended: bool = True,
    correlations: bool = True,
    noise: bool = True,
) -> XPSpectra:
    """Smear dispersed spectra, add their noise, and put them into the archive's form.

    Parameters
    ----------
    point : dict of ndarray, shape (n, 55), e-/s
        What `disperse_fluxes` returned.
    truth : mapping
        Columns of shape (n,); those named in ``columns`` go along with the spectra.
    rng : numpy.random.Generator
    columns : mapping
        Name to unit and description.
    index, seed, kind
        Number of the chunk, seed, and one of `KINDS`: they make the source_id.
    label : str
        Where the spectra came from, for their metadata.
    extended : bool
        Whether to smear by the light profile (``profile_scale``, ``point_fraction``).
    correlations, noise : bool
        As for `gaia_redshift.simulate.simulate_spectra`.
    """
    from astropy.table import Table

    n = len(truth["rp_flux"])
    if extended:
        smeared = dict(
            zip(
                BANDS,
                smear_coefficients(
                    point["bp"], point["rp"], truth["profile_scale"], truth["point_fraction"]
                ),
                strict=True,
            )
        )
    else:
        smeared = point
    parts = {}
    for band in BANDS:
        noisy, errors, triangle = draw_noise(
            smeared[band], truth[f"transits_{band}"], band, rng, correlations=correlations
        )
        parts[band] = BandSpectra(
            coefficients=noisy if noise else smeared[band],
            errors=errors,
            correlations=triangle,
            n_coefficients=np.full(n, N_BASES, dtype=np.int16),
            basis_id=np.full(n, _BASIS_ID[band], dtype=np.int16),
        )
    table = Table({name: truth[name] for name in columns})
    for name, (unit, description) in columns.items():
        table[name].description = description
        if unit:
            table[name].unit = unit
    for band in BANDS:
        table[f"{band}_n_measurements"] = (
            truth[f"transits_{band}"].astype(np.int32) * SAMPLES_PER_TRANSIT
        )
    first = (
        FIRST_SOURCE_ID
        + KINDS.index(kind) * 1_000_000_000_000_000
        + (seed % 10_000) * 10_000_000_000
        + index * CHUNK
    )
    return XPSpectra(
        source_id=first + np.arange(n, dtype=np.int64),
        bp=parts["bp"],
        rp=parts["rp"],
        columns=table,
        release="DR3",
        meta={"inputs": [label]},
    )


def check_numbers(n: int, block_size: int, what: str) -> None:
    """Refuse numbers of sources and block sizes below 1."""
    if n < 1:
        raise InputError(f"the number of {what} must be positive, not {n}")
    if block_size < 1:
        raise InputError(f"the block size must be positive, not {block_size}")


def assemble_blocks(
    n: int,
    block_size: int,
    draw: Callable[[int], XPSpectra],
    *,
    prepare: Callable[[], object] | None = None,
    unit: str,
    progress: bool,
) -> Iterator[XPSpectra]:
    """Draw chunks in two threads and join them to blocks; only a few chunks are held at a time.

    Parameters
    ----------
    n, block_size : int
    draw : callable
        Makes the whole chunk of a given number, so that a shorter run is a part of a longer one.
    prepare : callable, optional
        Loads what the threads share beside the instrument, before they ask for it.
    unit : str
        What the progress bar counts.
    progress : bool

    Yields
    ------
    XPSpectra
    """
    from gaia_redshift._progress import open_bar

    if prepare is not None:
        prepare()
    load_instrument()
    load_profile_maps()

    def make(start: int) -> XPSpectra:
        chunk, size = draw(start // CHUNK), min(CHUNK, n - start)
        return chunk if size == CHUNK else chunk[:size]

    waiting: list[XPSpectra] = []
    held = 0
    with (
        ThreadPoolExecutor(max_workers=2) as pool,
        open_bar(total=n, unit=unit, unit_scale=True, disable=not progress) as bar,
    ):
        # A few chunks ahead, never all of them: memory stays flat.
        ahead: list[Any] = []
        todo = iter(range(0, n, CHUNK))
        for start in todo:
            ahead.append(pool.submit(make, start))
            if len(ahead) == 4:
                break
        while ahead:
            chunk = ahead.pop(0).result()
            following = next(todo, None)
            if following is not None:
                ahead.append(pool.submit(make, following))
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
