"""Rest-frame spectra of galaxies from other generators than the simulator's own (extra ``eval``).

No model is trained on them: they are witnesses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from gaia_redshift.errors import InputError
from gaia_redshift.simulate import simulate_seds
from gaia_redshift.spectra import XPSpectra

__all__ = ["simulate_others"]

Array = NDArray[Any]

_NUMBER = 3000
_BPZ = ("El", "Sbc", "Scd", "Im", "SB3", "SB2")


def _find_file(package: str, name: str) -> Path:
    """Find a file that a package ships, without importing it (kcorrect sets up matplotlib)."""
    try:
        return Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError as error:
        raise InputError(
            f"these templates come with {package}: pip install 'gaia-redshift[eval]'"
        ) from error


def mix_kcorrect(seed: int) -> tuple[Array, Array]:
    """Mix kcorrect's five templates, as its fits do, with random positive weights.

    Such sums describe the SDSS's galaxies (Blanton & Roweis 2007, AJ 133, 734): stellar
    populations, dust and lines.
    """
    path = _find_file("kcorrect", "kcorrect/data/templates/kcorrect-default-v4.fits")
    with fits.open(path) as file:
        row = file["FLUX"].data[0]
        wavelength, seds = (np.asarray(row[name], dtype=float) for name in ("wave", "flux"))
    scaled = _scale(wavelength, seds)
    return wavelength, np.random.default_rng(seed).dirichlet(np.full(5, 0.5), _NUMBER) @ scaled


def mix_bpz(seed: int) -> tuple[Array, Array]:
    """Interpolate between neighbours of BPZ's templates, as its fits do.

    Observed galaxies (Coleman, Wu & Weedman 1980, ApJS 43, 393; Kinney et al. 1996, ApJ 467, 38),
    as recalibrated by Benitez et al. (2004, ApJS 150, 1).
    """
    wavelength = np.arange(1500.0, 12000.0, 5.0)
    seds = []
    for name in _BPZ:
        table = np.loadtxt(_find_file("desc-bpz", f"desc_bpz/data_files/SED/{name}_B2004a.sed"))
        seds.append(np.interp(wavelength, table[:, 0], table[:, 1]))
    scaled = _scale(wavelength, np.array(seds))
    rng = np.random.default_rng(seed)
    first, part = rng.integers(len(_BPZ) - 1, size=_NUMBER), rng.uniform(size=(_NUMBER, 1))
    return wavelength, (1 - part) * scaled[first] + part * scaled[first + 1]


def _scale(wavelength: Array, seds: Array) -> Array:
    near = (wavelength > 5400) & (wavelength < 5600)
    return np.asarray(seds / seds[:, near].mean(axis=1, keepdims=True))


_GENERATORS: dict[str, Callable[[int], tuple[Array, Array]]] = {
    "kcorrect": mix_kcorrect,
    "BPZ": mix_bpz,
}
"""For each a function of a seed: wavelengths (m,), A, and 3,000 spectra (3000, m)."""


def simulate_others(n: int, *, mixing: int, seed: int) -> dict[str, XPSpectra]:
    """Simulate galaxies of each of the generators that are installed.

    ``mixing`` is the seed of the spectra, ``seed`` that of everything else.
    """
    spectra = {}
    for name, mix in _GENERATORS.items():
        with contextlib.suppress(InputError):
            spectra[name] = simulate_seds(*mix(mixing), n, seed=seed, colours=True)
    return spectra
