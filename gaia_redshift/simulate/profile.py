"""Galaxies are extended: their light profile smears the slitless spectrum along the scan.

BP/RP spectra have no slit, so each point of a galaxy adds its own, shifted spectrum. One sample of
pseudo-wavelength is one pixel of 59 mas along scan; across, the window is 12 pixels of 177 mas
wide. The profile is a Sersic law, averaged over scan angles and summed across the window, plus a
compact part (a point). What falls outside the window is lost; and since the pipeline takes a local
background from what it sees around the spectrum, a part of the level at the window's ends is taken
off as well. Each smearing is a linear map of the coefficients. The maps of a ladder of radii and
Sersic indices are combinations of a few; the combinations are interpolated.

A spectrum that is moved along the scan (`shift_coefficients`), or that of a neighbour in the
window, seen under all scan angles (`displace_coefficients`), is another such map.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.simulate.instrument import BANDS, Band, Instrument, load_instrument

__all__ = ["INDICES", "RADII", "ProfileMaps", "load_profile_maps", "smear_coefficients"]

Float = NDArray[np.float64]

PIXEL_MAS = 58.93
"""One sample along scan."""
HALF_WIDTH_PIXELS = 6 * 176.8 / PIXEL_MAS
"""Half the window's width across the scan, in pixels along scan."""
RADII = np.geomspace(1.0, 220.0, 16)
"""Ladder of effective radii (circularised, pixels along scan); between them: linear in the log."""
INDICES = np.array([0.5, 1.0, 1.5, 2.5, 4.0, 6.0, 8.0])
"""Ladder of Sersic indices; between them: linear in the log."""
SHIFT_STEP = 0.5
SHIFT_LIMIT = 20.0
"""Largest shift along scan, pixels."""
_EDGE = 3.0
"""Samples at either end of the window from which its background level is judged."""
_ACCURACY = 1e-5


@dataclass(frozen=True, eq=False)
class ProfileMaps:
    """Maps of coefficients: ``smeared = sum over r of weight_r * (c @ maps[r])``."""

    bp: Float  # (rank, k, k)
    rp: Float  # (rank, k, k)
    weights: Float  # (len(RADII), len(INDICES), rank), of each rung of the ladder


def sersic_kernel(radius: float, index: float, offset: Float) -> Float:
    """Return the light between offsets along scan, shape (m,), for a total of 1 over the sky.

    ``radius`` (pixels) is effective, of a circular galaxy or the mean over position angles of
    another; ``offset`` (m + 1,), pixels, rises.
    """
    from scipy.special import gamma, gammaincinv

    b = gammaincinv(2 * index, 0.5)
    total = 2 * np.pi * index * radius**2 * b ** (-2 * index) * gamma(2 * index)
    # In rings: the part of each that lies in the quarter 0 < x < X, 0 < y < half width.
    edges = np.concatenate([[0.0], np.geomspace(1e-5, 200.0, 1600)])
    r = 0.5 * (edges[1:] + edges[:-1])
    light = np.exp(-b * (r / radius) ** (1 / index)) * r * np.diff(edges) / total
    x = np.unique(np.abs(offset))[:, None]
    angle = (
        0.5 * np.pi
        - np.arccos(np.minimum(x / r, 1.0))
        - np.arccos(np.minimum(HALF_WIDTH_PIXELS / r, 1.0))
    )
    within = 2.0 * np.maximum(angle, 0.0) @ light  # both signs of y
    return np.diff(np.sign(offset) * np.interp(np.abs(offset), x[:, 0], within))


def load_profile_maps(instrument: Instrument | None = None) -> ProfileMaps:
    """Return the maps of an instrument, DR3's by default; worked out on first use (a second)."""
    return _make_profile_maps(instrument or load_instrument())


@functools.lru_cache(maxsize=4)
def _make_profile_maps(instrument: Instrument) -> ProfileMaps:
    from scipy.signal import fftconvolve

    step = float(np.diff(instrument.bp.position[:2])[0])
    half = round(60.0 / step)
    edges = (np.arange(-half, half + 2, dtype=np.float64) - 0.5) * step
    kernels = np.array(
        [[sersic_kernel(r, n, edges) for n in INDICES.tolist()] for r in RADII.tolist()]
    )
    kernels /= kernels.sum(axis=2, keepdims=True)
    flat = kernels.reshape(-1, kernels.shape[2])
    u, s, vt = np.linalg.svd(flat, full_matrices=False)
    rank = int(np.sum(s > _ACCURACY * s[0]))
    weights = (u[:, :rank] * s[:rank]).reshape(*kernels.shape[:2], rank)
    maps = {}
    for band in BANDS:
        part: Band = getattr(instrument, band)
        curves = [
            fftconvolve(part.bases, kernel[None], mode="same", axes=1)[:, part.inside]
            for kernel in vt[:rank]
        ]
        maps[band] = np.array([part.fit(curve) for curve in curves])
    return ProfileMaps(bp=maps["bp"], rp=maps["rp"], weights=weights)


@functools.lru_cache(maxsize=8)
def ends_level(band: str, instrument: Instrument) -> Float:
    """Mean (k,) of each of the bases over the ends of the window."""
    part: Band = getattr(instrument, band)
    position = part.position[part.inside]
    ends = (position < position[0] + _EDGE) | (position > position[-1] - _EDGE)
    return part.bases[:, part.inside][:, ends].mean(axis=1)


def take_background(
    coefficients: NDArray[np.floating],
    part_taken: NDArray[np.floating] | float,
    band: str,
    instrument: Instrument | None = None,
) -> Float:
    """Take a part (...,) of the level at the window's ends off coefficients (..., k).

    As a local background would.
    """
    chosen = instrument or load_instrument()
    level = (coefficients @ ends_level(band, chosen)) * part_taken
    return coefficients - level[..., None] * constant_coefficients(band, chosen)


@functools.lru_cache(maxsize=8)
def constant_coefficients(band: str, instrument: Instrument) -> Float:
    """Coefficients (k,) of a spectrum that is 1 throughout the window."""
    part: Band = getattr(instrument, band)
    return part.fit(np.ones((1, int(part.inside.sum()))))[0]


def interpolate_weights(maps: ProfileMaps, radius: Float, index: Float) -> Float:
    """Weights (n, rank) of the maps for circularised radii (pixels) and Sersic indices, (n,)."""
    place = []
    for values, ladder in ((radius, RADII), (index, INDICES)):
        where = np.interp(np.log(values), np.log(ladder), np.arange(ladder.size, dtype=float))
        lower = np.minimum(where.astype(int), ladder.size - 2)
        place.append((lower, (where - lower)[:, None]))
    (i, a), (j, b) = place
    w = maps.weights
    return (1 - a) * ((1 - b) * w[i, j] + b * w[i, j + 1]) + a * (
        (1 - b) * w[i + 1, j] + b * w[i + 1, j + 1]
    )


def smear_coefficients(
    bp: NDArray[np.floating],
    rp: NDArray[np.floating],
    radius: NDArray[np.floating],
    index: NDArray[np.floating],
    point_fraction: NDArray[np.floating],
    *,
    instrument: Instrument | None = None,
) -> tuple[Float, Float]:
    """Turn coefficients of point sources into those of extended ones.

    Parameters
    ----------
    bp, rp : ndarray, shapes (n, k), e-/s
    radius : ndarray, shape (n,), pixels of 59 mas
        Effective radius, circularised; limited to the ladder's range (1 to 220).
    index : ndarray, shape (n,)
        Sersic index, limited to 0.5 to 8.
    point_fraction : ndarray, shape (n,)
        Part of the light in the compact core.
    instrument : Instrument, optional
        DR3's by default.

    Returns
    -------
    bp, rp : ndarray, shape (n, k), e-/s
        Of the light along scan within 60 pixels of the centre: the loss of the rest, the same at
        all wavelengths, is left to who sets the level.
    """
    maps = load_profile_maps(instrument)
    weights = interpolate_weights(maps, np.asarray(radius), np.asarray(index))
    point = np.asarray(point_fraction)[:, None]
    outputs = []
    for coefficients, ladder in ((bp, maps.bp), (rp, maps.rp)):
        rank, k, _ = ladder.shape
        # One matrix product over all maps: (n, rank k) with (rank k, k).
        spread = ((1 - point) * weights)[:, :, None] * coefficients[:, None, :]
        out = spread.reshape(len(coefficients), rank * k) @ ladder.reshape(rank * k, k)
        outputs.append(point * coefficients + out)
    return outputs[0], outputs[1]


@functools.lru_cache(maxsize=4)
def _shift_maps(instrument: Instrument) -> tuple[Float, dict[str, Float]]:
    """Ladder of shifts (pixels), and per band the maps (len(ladder), k, k)."""
    shifts = np.arange(-SHIFT_LIMIT, SHIFT_LIMIT + SHIFT_STEP / 2, SHIFT_STEP)
    maps = {}
    for band in BANDS:
        part: Band = getattr(instrument, band)
        size = int(part.inside.sum())
        step = float(np.diff(part.position[:2])[0])
        first = int(np.flatnonzero(part.inside)[0])
        starts = [first - round(shift / step) for shift in shifts]
        maps[band] = np.array([part.fit(part.bases[:, i : i + size]) for i in starts])
    return shifts, maps


@functools.lru_cache(maxsize=4)
def _neighbour_maps(instrument: Instrument) -> tuple[Float, dict[str, Float]]:
    """Ladder of separations (pixels), and per band the maps (len(ladder), k, k)."""
    shifts, maps = _shift_maps(instrument)
    separations = np.arange(0.0, SHIFT_LIMIT + 0.5, 1.0)
    along = np.multiply.outer(separations, np.cos((np.arange(32) + 0.5) / 32 * np.pi))
    where = np.interp(along, shifts, np.arange(shifts.size, dtype=float))
    share = np.maximum(1 - np.abs(where[:, :, None] - np.arange(shifts.size)), 0).mean(axis=1)
    return separations, {band: np.tensordot(share, maps[band], axes=1) for band in BANDS}


def _apply_ladder(coefficients: Float, value: Float, ladder: Float, maps: Float) -> Float:
    """Apply the maps of a ladder, interpolated between its rungs, to coefficients (n, k)."""
    where = np.interp(value, ladder, np.arange(ladder.size, dtype=float))
    lower = np.minimum(where.astype(int), ladder.size - 2)
    weight = (where - lower)[:, None]
    out = np.empty(coefficients.shape)
    for step in np.unique(lower):
        rows = lower == step
        c = coefficients[rows]
        out[rows] = (1 - weight[rows]) * (c @ maps[step]) + weight[rows] * (c @ maps[step + 1])
    return out


def shift_coefficients(
    coefficients: NDArray[np.floating],
    shift: NDArray[np.floating],
    band: str,
    instrument: Instrument | None = None,
) -> Float:
    """Move spectra (n, k) along the scan by up to 20 pixels (n,); what leaves is lost."""
    shifts, maps = _shift_maps(instrument or load_instrument())
    return _apply_ladder(np.asarray(coefficients), np.asarray(shift), shifts, maps[band])


def displace_coefficients(
    coefficients: NDArray[np.floating],
    separation: NDArray[np.floating],
    band: str,
    instrument: Instrument | None = None,
) -> Float:
    """Move spectra (n, k) of neighbours off the centre, by up to 20 pixels (n,) on the sky.

    The mean over all scan angles.
    """
    ladder, maps = _neighbour_maps(instrument or load_instrument())
    return _apply_ladder(np.asarray(coefficients), np.asarray(separation), ladder, maps[band])
