"""Made-up vectors from which a redshift can be learned: a bump that moves with it."""

from __future__ import annotations

import numpy as np

from gaia_redshift.spectra import FluxVectors


def make_galaxies(
    n: int = 300, seed: int = 0, *, errors: bool = False
) -> tuple[FluxVectors, np.ndarray]:
    """Vectors, with flux errors or without, and their redshifts, shape (n,)."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.01, 0.59, n)
    flux = np.exp(-0.5 * ((np.arange(186) - 40 - 200 * z[:, None]) / 12) ** 2)
    flux = (flux + 0.3) * rng.uniform(2, 10, (n, 1)) + rng.normal(0, 0.1, (n, 186))
    flux_error = np.full(flux.shape, 0.1) if errors else None
    return FluxVectors(np.arange(1, n + 1), flux, flux_error), z
