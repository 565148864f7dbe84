"""Galaxies are extended: their light profile smears the slitless spectrum along the scan.

BP/RP spectra have no slit, so each point of a galaxy adds its own, shifted spectrum. One sample of
pseudo-wavelength is one pixel of 59 mas along scan. The profile is a compact part (a point) plus
an exponential one, ``exp(-|x| / h) / 2h``. What falls outside the window of 60 samples is lost.
Each smearing is a linear map of the 55 coefficients, worked out once for a ladder of scales h.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.instrument import BANDS, WINDOW, load_instrument

__all__ = ["SCALES", "ProfileMaps", "load_profile_maps", "smear_coefficients"]

SCALES = np.geomspace(0.7, 40.0, 18)
"""Ladder of exponential scales h (pixels of 59 mas along scan); between them: linear in ln h."""
_DAMPING = 1e-6


@dataclass(frozen=True, eq=False)
class ProfileMaps:
    """Maps of coefficients, shape (len(SCALES), 55, 55) a band: ``smeared = c @ maps[i]``."""

    bp: NDArray[np.float64]
    rp: NDArray[np.float64]


@functools.lru_cache(maxsize=1)
def load_profile_maps() -> ProfileMaps:
    """Return the maps of the ladder, worked out on first use (about a second)."""
    from scipy.signal import fftconvolve

    maps = {}
    for band in BANDS:
        part = getattr(load_instrument(), band)
        step = part.position[1] - part.position[0]
        inside = (part.position >= WINDOW[0]) & (part.position <= WINDOW[1])
        target = part.bases[:, inside]
        u, s, vt = np.linalg.svd(target.T, full_matrices=False)
        keep = s / (s**2 + (_DAMPING * s[0]) ** 2)
        fit = (vt.T * keep) @ u.T
        half = round(60.0 / step)
        offset = np.arange(-half, half + 1) * step
        rows = []
        for scale in SCALES:
            # The exponential is integrated over each step: exact however short the scale.
            low, high = np.abs(offset) - step / 2, np.abs(offset) + step / 2
            kernel = 0.5 * (np.exp(-np.maximum(low, 0) / scale) - np.exp(-high / scale))
            kernel[half] = 1.0 - np.exp(-step / 2 / scale)
            smeared = fftconvolve(part.bases, kernel[None], mode="same", axes=1)[:, inside]
            rows.append((fit @ smeared.T).T)
        maps[band] = np.array(rows)
    return ProfileMaps(bp=maps["bp"], rp=maps["rp"])


def smear_coefficients(
    bp: NDArray[np.floating],
    rp: NDArray[np.floating],
    scale: NDArray[np.floating],
    point_fraction: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn coefficients of point sources into those of extended ones.

    Parameters
    ----------
    bp, rp : ndarray, shape (n, 55), e-/s
    scale : ndarray, shape (n,), pixels of 59 mas
        Along-scan exponential scale, limited to the ladder's range (0.7 to 40).
    point_fraction : ndarray, shape (n,)
        Part of the light in the compact core.

    Returns
    -------
    bp, rp : ndarray, shape (n, 55), e-/s
    """
    maps = load_profile_maps()
    position = np.interp(np.log(scale), np.log(SCALES), np.arange(SCALES.size, dtype=float))
    lower = np.minimum(position.astype(int), SCALES.size - 2)
    weight = (position - lower)[:, None]
    point = np.asarray(point_fraction)[:, None]
    outputs = []
    for coefficients, ladder in ((bp, maps.bp), (rp, maps.rp)):
        out = np.empty(coefficients.shape)
        for step in np.unique(lower):
            rows = lower == step
            c = coefficients[rows]
            out[rows] = (1 - weight[rows]) * (c @ ladder[step]) + weight[rows] * (
                c @ ladder[step + 1]
            )
        outputs.append(point * coefficients + (1 - point) * out)
    return outputs[0], outputs[1]
