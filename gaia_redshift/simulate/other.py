"""Spectra of other origin through the same survey, instrument and noise.

A network that learned from one set of model galaxies should know those of another as well: here
any rest-frame spectra become simulated Gaia galaxies.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate.galaxies import NORMALISATION_A, GalaxyLibrary
from gaia_redshift.simulate.generate import TRUTH_COLUMNS, simulate_chunk
from gaia_redshift.simulate.observation import assemble_blocks, check_numbers
from gaia_redshift.simulate.redshifts import Survey
from gaia_redshift.simulate.selection import GIVEN
from gaia_redshift.simulate.survey import SurveyParameters, load_parameters
from gaia_redshift.spectra import XPSpectra

__all__ = ["simulate_seds"]

Float = NDArray[np.float64]

_RANGE_A = (1900.0, 11100.0)
_STEP_A = 5.0
_ALL_TYPES = 0.03
"""Added, dex, to the scatter of colour within the quiescent types, for all types together."""
SED_COLUMNS = {
    **TRUTH_COLUMNS,
    "type": (None, "always sed: a spectrum that the user gave"),
    "sed": ("", "row of the spectrum among those given"),
}


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
    library = _make_library(wavelength_A, flux_lambda)
    check_numbers(n, 1, "galaxies")
    p = parameters or load_parameters()
    plain = dataclasses.replace(
        p,
        type_fractions=p.type_fractions | {GIVEN: np.ones_like(p.redshift_knots)},
        colour_active_offset=0.0,
        colour_active_factor=1.0,
        colour_scatter=(
            np.hypot(p.colour_scatter, _ALL_TYPES)
            if colours
            else np.full_like(p.colour_scatter, np.inf)
        ),
    )
    draw = functools.partial(
        simulate_chunk,
        seed=seed,
        survey=Survey.resolve(survey),
        correlations=correlations,
        noise=noise,
        parameters=plain,
        library=library,
        kind="sed",
        columns=SED_COLUMNS,
        label="simulated galaxies with given spectra",
    )
    blocks = assemble_blocks(
        n,
        n,
        draw,
        prepare=lambda: library.cumulative(slice(0, 1)),
        unit="galaxy",
        progress=progress,
    )
    return XPSpectra.concatenate(list(blocks))


def _make_library(wavelength: ArrayLike, flux: ArrayLike) -> GalaxyLibrary:
    w = np.asarray(wavelength, dtype=float)
    f = np.atleast_2d(np.asarray(flux, dtype=float))
    if w.ndim != 1 or f.ndim != 2 or f.shape[1] != w.size or w.size < 2:
        raise InputError(
            f"flux_lambda must have shape (k, {w.size}) for wavelengths of shape {w.shape},"
            f" not {f.shape}"
        )
    if not np.all(np.diff(w) > 0):
        raise InputError("the wavelengths (A) must rise")
    # Whole bins within what was given: nothing is made up beyond its ends.
    low = _STEP_A * np.ceil(max(w[0], _RANGE_A[0]) / _STEP_A)
    high = _STEP_A * np.floor(min(w[-1], _RANGE_A[1]) / _STEP_A)
    if low > NORMALISATION_A[0] or high < NORMALISATION_A[1]:
        raise InputError(
            f"the spectra reach from {w[0]:.0f} to {w[-1]:.0f} A in the rest frame; they must hold"
            " 2,009 to 10,845 A for redshifts from 0 to 0.6"
        )
    if not np.all(np.isfinite(f)) or f.min() < 0:
        raise InputError("spectra must be finite and not negative")
    edges = np.arange(low, high + _STEP_A / 2, _STEP_A)
    steps = 0.5 * (f[:, 1:] + f[:, :-1]) * np.diff(w)
    cumulative = np.concatenate([np.zeros((len(f), 1)), np.cumsum(steps, axis=1)], axis=1)
    binned = np.diff([np.interp(edges, w, row) for row in cumulative], axis=1) / _STEP_A
    centre = 0.5 * (edges[1:] + edges[:-1])
    level = binned[:, (centre > NORMALISATION_A[0]) & (centre < NORMALISATION_A[1])].mean(axis=1)
    if not np.all(level > 0):
        raise InputError("a spectrum has no flux at 5,900 to 6,100 A")
    k = len(f)
    return GalaxyLibrary(
        edges=edges,
        types=np.full(k, GIVEN),
        parameters={"av": np.zeros(k), "age": np.zeros(k)},
        provenance={},
        mean=np.zeros(centre.size, dtype=np.float32),
        components=(binned / level[:, None]).astype(np.float32),
        coefficients=np.eye(k, dtype=np.float32),
    )
