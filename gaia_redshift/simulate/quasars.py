"""Spectra of quasars, made of formulas: power laws, emission lines, iron, the Lyman alpha forest.

Wavelengths, equivalent widths and widths of the lines, and the continuum's slopes, follow the
composite of SDSS quasars by Vanden Berk et al. (2001, AJ 122, 549), but for the continuum redward
of 4661 A: the composite's holds host galaxies, which are left out here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LINES", "QUASAR_REDSHIFTS", "draw_quasars", "quasar_fluxes"]

Float = NDArray[np.float64]

QUASAR_REDSHIFTS = (0.0, 4.5)
"""Range of the redshifts drawn: a beta distribution with its mean at 1.7."""

# Rest wavelength, equivalent width and sigma of the profile, A.
LINES = (
    (1033.0, 9.8, 7.8), (1216.25, 92.9, 19.5), (1239.9, 1.1, 2.7), (1305.4, 1.7, 5.4),
    (1336.6, 0.7, 3.9), (1398.3, 8.1, 14.2), (1546.2, 23.8, 14.3), (1637.8, 0.5, 3.9),
    (1664.7, 0.4, 5.3), (1856.8, 0.3, 5.0), (1906.0, 21.2, 23.6), (2800.3, 32.3, 34.9),
    (3426.8, 1.2, 4.3), (3729.7, 1.6, 3.3), (3869.8, 1.4, 5.3), (4102.7, 5.1, 18.6),
    (4346.4, 12.6, 20.3), (4853.1, 46.2, 40.4), (4960.4, 3.5, 3.9), (5008.2, 13.2, 6.0),
    (5877.4, 4.9, 23.5), (6564.9, 194.5, 47.4), (6718.9, 1.7, 2.1), (6733.7, 1.5, 2.5),
)  # fmt: skip
_NARROW_A = 6.5
"""Lines above 3400 A with a smaller sigma are narrow: ``line_width`` does not stretch them."""
# Iron roughly: broad humps in the ultraviolet and on both sides of H beta.
_IRON = ((1900.0, 12.0, 70.0), (2150.0, 18.0, 90.0), (2480.0, 45.0, 120.0),
         (4564.0, 19.0, 62.0), (5250.0, 22.0, 100.0))  # fmt: skip
_LYMAN_ALPHA, _LYMAN_LIMIT, _BREAK, _BALMER_LIMIT = 1215.67, 911.8, 4661.0, 3646.0


def draw_quasars(n: int, rng: np.random.Generator) -> dict[str, Float]:
    """Draw what makes each quasar, shape (n,) each.

    ``redshift``; ``blue_slope`` and ``red_slope`` of f_lambda; ``line_strength``, ``line_width``
    and ``iron`` relative to the composite; ``absorption``, A_V (mag) of the quasar's own dust.
    """
    low, high = QUASAR_REDSHIFTS
    return {
        "redshift": low + (high - low) * rng.beta(2.0, 3.3, n),
        "blue_slope": rng.normal(-1.56, 0.3, n),
        "red_slope": rng.normal(-0.5, 0.4, n),
        "line_strength": 10 ** rng.normal(0.0, 0.15, n),
        "line_width": 10 ** rng.normal(0.0, 0.1, n),
        "iron": 10 ** rng.normal(0.0, 0.25, n),
        "absorption": np.minimum(rng.exponential(0.08, n), 1.0),
    }


def quasar_fluxes(quasars: dict[str, Float], edges_nm: Float) -> Float:
    """Return the mean f_lambda of quasars, (n, m), any unit, in observed bins (m + 1 edges, nm).

    Without Galactic extinction. The forest is its mean: an optical depth of 0.0036 (1 + z)^3.46 at
    the redshift where the light passed Lyman alpha (Press, Rybicki & Schneider 1993).
    """
    from scipy.special import ndtr

    q = {name: np.asarray(value, dtype=float)[:, None] for name, value in quasars.items()}
    edges = 10.0 * np.asarray(edges_nm)[None, :] / (1.0 + q["redshift"])
    rest = 0.5 * (edges[:, 1:] + edges[:, :-1])
    step = np.diff(edges, axis=1)

    def continuum(w: Float) -> Float:
        slope = np.where(w > _BREAK, q["red_slope"], q["blue_slope"])
        level = (w / _BREAK) ** slope
        turn = (w / _LYMAN_ALPHA) ** (-0.3 - q["blue_slope"])  # flatter beyond Lyman alpha
        return level * np.where(w < _LYMAN_ALPHA, turn, 1.0)

    flux = continuum(rest)
    balmer = np.where(rest < _BALMER_LIMIT, (rest / _BALMER_LIMIT) ** 3, 0.0)
    flux += 0.12 * q["iron"] * balmer * continuum(np.full_like(rest, 3000.0))
    for lines, strength, width in (
        (LINES, q["line_strength"], q["line_width"]),
        (_IRON, q["iron"], 1.0),
    ):
        for centre, equivalent, sigma in lines:
            narrow = centre > 3400.0 and sigma < _NARROW_A
            spread = sigma * (1.0 if narrow else width)
            share = np.diff(ndtr((edges - centre) / spread), axis=1) / step
            at = continuum(np.full((1, 1), centre))
            flux += strength * equivalent * at * share
    law = (rest / 5500.0) ** -1.2
    flux *= 10 ** (-0.4 * q["absorption"] * law)
    passed = rest * (1.0 + q["redshift"]) / _LYMAN_ALPHA  # 1 + z where the light met Lyman alpha
    flux *= np.exp(-np.where(rest < _LYMAN_ALPHA, 0.0036 * passed**3.46, 0.0))
    return flux * np.where(rest < _LYMAN_LIMIT, np.exp(-0.5 * passed), 1.0)
