"""Spectra of stars, made of formulas: Planck's continuum, lines and bands by temperature.

No library of stars is behind them. Temperatures set the strengths, with a scatter from star to
star that stands for abundances and gravity; at the resolution of BP/RP that looks like a star,
though like no star in particular.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TEMPERATURE_MIX", "draw_temperatures", "star_fluxes"]

Float = NDArray[np.float64]

TEMPERATURE_MIX = (
    (2800.0, 3900.0, 0.25),
    (3900.0, 5300.0, 0.33),
    (5300.0, 6000.0, 0.22),
    (6000.0, 7300.0, 0.12),
    (7300.0, 10000.0, 0.05),
    (10000.0, 30000.0, 0.03),
)
"""Temperatures (K) from, to, and share: M, K, G, F, A stars and hotter ones, as faint stars are
mixed at high Galactic latitude; uniform in ln T within each."""

_BALMER_NM = (656.46, 486.27, 434.17, 410.29, 397.12, 389.02, 383.65, 379.90, 377.17)
_BALMER_RELATIVE = (0.75, 0.90, 1.0, 1.0, 0.85, 0.65, 0.45, 0.30, 0.20)

# Head (nm), greatest depth and extent redwards (nm) of the bands of TiO (and VO at 740 nm).
_TIO = (
    (476.1, 0.45, 14.0), (495.4, 0.60, 14.0), (516.7, 0.65, 16.0), (544.8, 0.55, 18.0),
    (584.7, 0.55, 16.0), (615.9, 0.65, 22.0), (665.1, 0.60, 20.0), (705.4, 0.75, 28.0),
    (740.0, 0.30, 12.0), (758.9, 0.60, 22.0), (843.2, 0.45, 20.0), (885.9, 0.35, 20.0),
)  # fmt: skip


def draw_temperatures(n: int, rng: np.random.Generator) -> Float:
    """Draw effective temperatures (K), shape (n,), from `TEMPERATURE_MIX`."""
    low, high, share = np.array(TEMPERATURE_MIX).T
    part = np.searchsorted(np.cumsum(share)[:-1], rng.uniform(size=n))
    return low[part] * (high[part] / low[part]) ** rng.uniform(size=n)


def star_fluxes(teff: Float, strength: Float, wavelength: Float) -> Float:
    """Return f_lambda of stars, (n, m), any unit, at wavelengths (m,), nm, without extinction.

    ``strength`` of all lines and bands is 1 in the mean. Planck's law; hydrogen, strongest near
    9,000 K; metal lines in cool stars; TiO below 4,100 K. Equivalent widths are round numbers for
    dwarfs.
    """
    t = np.asarray(teff, dtype=float)[:, None]
    s = np.asarray(strength, dtype=float)[:, None]
    w = np.asarray(wavelength, dtype=float)[None, :]
    flux = w**-5 / np.expm1(1.438777e7 / (w * t))
    flux = flux / (5.5e2**-5 / np.expm1(1.438777e7 / (5.5e2 * t)))

    away = np.log10(t / 9000.0)
    hydrogen = np.exp(-0.5 * (away / np.where(away < 0, 0.12, 0.28)) ** 2)
    # The Balmer lines run together before the limit, which smooths the jump.
    flux *= 10 ** (-0.5 * hydrogen / (1 + np.exp((w - 371.0) / 4.0)))
    flux *= 10 ** (-0.06 * hydrogen / (1 + np.exp((w - 835.0) / 8.0)))
    for centre, relative in zip(_BALMER_NM, _BALMER_RELATIVE, strict=True):
        flux *= 1 - _line(w, centre, 1.2, np.minimum(1.35 * relative * hydrogen * s, 1.9))

    cool = 1 / (1 + np.exp((t - 6300.0) / 600.0))
    crowding = s * (0.08 + 0.9 * cool) * np.maximum((520.0 - w) / 150.0, 0.0) ** 1.5
    flux *= np.exp(-crowding)
    late = 1 / (1 + np.exp((t - 4700.0) / 400.0))
    metals = (
        (393.5, 1.1, 0.9 * cool), (397.0, 1.1, 0.8 * cool), (422.8, 0.8, 0.5 * late),
        (430.6, 1.5, 0.5 * cool * (1 - 0.7 * late)), (517.5, 2.0, 0.12 * cool + 0.6 * late),
        (512.0, 5.0, 0.9 * late), (527.0, 1.5, 0.15 * cool + 0.2 * late),
        (589.3, 1.0, 0.06 * cool + 0.5 * late), (849.8, 1.0, 0.13 * cool),
        (854.2, 1.0, 0.32 * cool), (866.2, 1.0, 0.26 * cool),
    )  # fmt: skip
    for centre, sigma, width in metals:
        flux *= 1 - _line(w, centre, sigma, np.minimum(width * s, 2.3 * sigma))
    titanium = np.clip((4100.0 - t) / 1300.0, 0.0, 1.0) * s
    for head, depth, extent in _TIO:
        shape = np.where(w > head, np.exp(-(w - head) / extent), 0.0)
        flux *= 1 - np.minimum(depth * titanium, 0.95) * shape
    return flux


def _line(w: Float, centre: float, sigma: float, width: Float) -> Float:
    """Gaussian of a given equivalent width (nm)."""
    return width / (sigma * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((w - centre) / sigma) ** 2)
