"""What kinds of galaxies the library holds, and how their parameters are drawn.

The draws cover the parameters that galaxies seen by Gaia can have, rather evenly; no survey has
this mix. Whoever simulates a survey chooses among the library's galaxies by their parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError

__all__ = ["FRACTIONS", "PARAMETERS", "draw_parameters"]

Float = NDArray[np.float64]
Draw = dict[str, Float]

FRACTIONS = {
    "passive": 1700 / 6000,
    "green_valley": 700 / 6000,
    "star_forming": 1700 / 6000,
    "dusty": 500 / 6000,
    "post_burst": 300 / 6000,
    "starburst": 400 / 6000,
    "agn_narrow": 400 / 6000,
    "agn_broad": 300 / 6000,
}
"""Share of each kind: coverage of parameters, not the mix of any survey."""

PARAMETERS = {
    "age": "Gyr since the first stars formed: a galaxy cannot be older than the Universe",
    "mass_weighted_age": "Gyr, mean age of the formed stellar mass",
    "tau": "Gyr, e-folding time of the delayed star formation, t exp(-t/tau)",
    "metallicity": "in units of 0.02 (bagpipes' solar value), one value for all stars and gas",
    "av": "mag, V-band attenuation of the stars by diffuse dust",
    "eta": "attenuation towards stars younger than 10 Myr and their nebulae, in units of av",
    "dust_slope": "power-law change of the Calzetti law's slope, negative is steeper",
    "dust_bump": "strength of the 2175 A bump, 3.5 in the Milky Way",
    "log_u": "log10 of the ionisation parameter",
    "burst_fraction": "share of the formed mass that a later burst made, 0 without one",
    "burst_end": "Gyr since the burst ended",
    "burst_start": "Gyr since the burst began",
    "agn_fraction": "share of the light at 5100 A from the nucleus' continuum",
    "agn_fwhm": "km/s, width of the broad Balmer lines, 0 where there are none",
    "log_ssfr": "log10 of star-formation rate over 100 Myr per living stellar mass, 1/yr, >= -14",
    "d4000": "break at 4000 A: f_nu of 4000-4100 over 3850-3950 A (Balogh et al. 1999)",
    "ha_ew": "A, equivalent width of H alpha in emission (all its components)",
    "g_r": "mag, approximate rest-frame AB colour g - r (box bands 4000-5400, 5620-6890 A)",
}
"""Meaning and unit of every stored parameter."""

# What `draw_parameters` draws besides: needed to make a spectrum, not worth storing.
_AGN_DRAWS = (
    "agn_slope", "agn_av", "narrow_av", "oiii_ew", "broad_ha_ew", "log_o3_hb", "log_n2_ha",
    "log_s2_ha", "log_o1_ha", "log_o2_hb", "log_ne3_o2", "log_he2_hb", "log_ne5_hb",
)  # fmt: skip


def _draw_common(rng: np.random.Generator, n: int) -> Draw:
    """Draw what all kinds share; each kind then overrides its own."""
    draw = {name: np.zeros(n) for name in (*PARAMETERS, *_AGN_DRAWS)}
    draw["eta"] = rng.uniform(1.0, 3.0, n)
    # Salim et al. (2018): slopes of local galaxies scatter around somewhat steeper than Calzetti.
    draw["dust_slope"] = np.clip(rng.normal(-0.15, 0.25, n), -0.7, 0.3)
    draw["dust_bump"] = rng.uniform(0.0, 3.0, n)
    draw["log_u"] = rng.uniform(-3.8, -2.2, n)
    return draw


def _log_normal(
    rng: np.random.Generator,
    n: int,
    middle: float,
    dex: float,
    limits: tuple[float, float] = (0.0, np.inf),
) -> Float:
    return np.clip(10 ** rng.normal(np.log10(middle), dex, n), *limits)


def _draw_old(
    rng: np.random.Generator,
    n: int,
    *,
    ages: tuple[float, float],
    declines: tuple[float, float],
    metallicity: tuple[float, float],
    dust: tuple[float, float],
) -> Draw:
    """Ages, ages over the time of decline, middle and least metallicity, mean and largest A_V."""
    draw = _draw_common(rng, n)
    draw["age"] = rng.uniform(*ages, n)
    draw["tau"] = draw["age"] / rng.uniform(*declines, n)
    middle, least = metallicity
    draw["metallicity"] = _log_normal(rng, n, middle, 0.2, (least, 2.2))
    draw["av"] = np.minimum(rng.exponential(dust[0], n), dust[1])
    return draw


def _draw_passive(rng: np.random.Generator, n: int) -> Draw:
    return _draw_old(
        rng, n, ages=(2.0, 13.4), declines=(8.5, 30.0), metallicity=(1.1, 0.4), dust=(0.3, 1.5)
    )


def _draw_green_valley(rng: np.random.Generator, n: int) -> Draw:
    return _draw_old(
        rng, n, ages=(3.0, 13.2), declines=(3.5, 8.5), metallicity=(1.0, 0.3), dust=(0.55, 2.2)
    )


def _draw_star_forming(rng: np.random.Generator, n: int) -> Draw:
    draw = _draw_common(rng, n)
    draw["age"] = rng.uniform(2.0, 12.5, n)
    draw["tau"] = 10 ** rng.uniform(0.0, 1.0, n)
    draw["metallicity"] = _log_normal(rng, n, 0.8, 0.22, (0.15, 2.2))
    draw["av"] = np.clip(rng.gamma(3.0, 1 / 3.0, n), 0.03, 2.5)
    # Metal-poor gas is more strongly ionised (the fundamental anticorrelation of H II regions).
    log_z = np.log10(draw["metallicity"])
    draw["log_u"] = np.clip(rng.normal(-3.1 - 0.6 * log_z, 0.3, n), -3.8, -2.2)
    return draw


def _draw_dusty(rng: np.random.Generator, n: int) -> Draw:
    draw = _draw_star_forming(rng, n)
    draw["av"] = rng.uniform(1.5, 3.0, n)
    draw["eta"] = rng.uniform(1.0, 2.0, n)
    return draw


def _draw_post_burst(rng: np.random.Generator, n: int) -> Draw:
    draw = _draw_passive(rng, n)
    draw["age"] = rng.uniform(3.0, 13.0, n)
    draw["tau"] = draw["age"] / rng.uniform(6.0, 20.0, n)
    draw["av"] = np.minimum(rng.exponential(0.4, n), 1.8)
    draw["burst_fraction"] = 10 ** rng.uniform(-1.7, -0.35, n)
    draw["burst_end"] = 10 ** rng.uniform(-1.0, np.log10(1.2), n)
    draw["burst_start"] = draw["burst_end"] + rng.uniform(0.05, 0.3, n)
    return draw


def _draw_starburst(rng: np.random.Generator, n: int) -> Draw:
    draw = _draw_star_forming(rng, n)
    draw["age"] = rng.uniform(3.0, 12.5, n)
    draw["tau"] = rng.uniform(0.8, 5.0, n)
    draw["metallicity"] = _log_normal(rng, n, 0.5, 0.25, (0.1, 2.0))
    log_z = np.log10(draw["metallicity"])
    draw["log_u"] = np.clip(rng.normal(-2.9 - 0.5 * log_z, 0.3, n), -3.6, -2.0)
    draw["av"] = np.clip(rng.gamma(2.5, 0.28, n), 0.03, 2.0)
    draw["eta"] = rng.uniform(1.0, 2.0, n)
    draw["burst_fraction"] = 10 ** rng.uniform(-2.7, -0.9, n)
    draw["burst_start"] = 10 ** rng.uniform(-1.8, -0.6, n)
    return draw


def _draw_nucleus(rng: np.random.Generator, draw: Draw, broad: bool) -> Draw:
    """Add the parameters of an active nucleus (`nuclei.add_agn` uses them) to drawn hosts."""
    n = len(draw["age"])
    liner = (rng.random(n) < 0.3) & (not broad)
    if broad:
        draw["agn_fraction"] = rng.uniform(0.05, 0.6, n)
        draw["agn_fwhm"] = _log_normal(rng, n, 4000.0, 0.2, (2000.0, 8000.0))
        draw["agn_av"] = np.minimum(rng.exponential(0.2, n), 1.0)
    else:
        # Little of a hidden nucleus' continuum reaches us, 1 to 30 % by scattering; of a LINER's
        # next to nothing.
        draw["agn_fraction"] = np.where(liner, 0.02, 1.0) * 10 ** rng.uniform(-2.0, -0.5, n)
        draw["agn_av"] = rng.uniform(0.0, 1.5, n)
    draw["agn_slope"] = np.clip(rng.normal(-1.6, 0.35, n), -2.4, -0.4)
    draw["broad_ha_ew"] = np.where(draw["agn_fwhm"] > 0, _log_normal(rng, n, 220.0, 0.15), 0.0)
    draw["narrow_av"] = np.minimum(rng.gamma(2.0, 0.4, n), 2.5)
    draw["oiii_ew"] = np.where(
        liner,
        _log_normal(rng, n, 3.0, 0.3, (0.5, 15.0)),
        _log_normal(rng, n, 15.0, 0.4, (2.0, 200.0)),
    )
    # Line ratios of Seyferts and LINERs in SDSS (Kewley et al. 2006, MNRAS 372, 961).
    draw["log_o3_hb"] = np.where(liner, rng.uniform(0.1, 0.5, n), rng.uniform(0.45, 1.1, n))
    draw["log_n2_ha"] = np.clip(rng.normal(0.0, 0.15, n), -0.5, 0.35)
    draw["log_s2_ha"] = np.clip(rng.normal(-0.2, 0.13, n) + 0.15 * liner, -0.6, 0.3)
    draw["log_o1_ha"] = np.clip(rng.normal(-0.9, 0.18, n) + 0.25 * liner, -1.4, -0.3)
    draw["log_o2_hb"] = np.clip(rng.normal(0.45, 0.18, n) + 0.1 * liner, -0.1, 1.0)
    draw["log_ne3_o2"] = np.clip(rng.normal(-0.55, 0.15, n) - 0.2 * liner, -1.1, -0.1)
    draw["log_he2_hb"] = np.clip(rng.normal(-0.75, 0.15, n) - 0.5 * liner, -1.6, -0.3)
    draw["log_ne5_hb"] = np.clip(rng.normal(-0.2, 0.2, n) - 1.0 * liner, -1.8, 0.3)
    return draw


_HOSTS: dict[str, Callable[[np.random.Generator, int], Draw]] = {
    "passive": _draw_passive,
    "green_valley": _draw_green_valley,
    "star_forming": _draw_star_forming,
    "dusty": _draw_dusty,
    "post_burst": _draw_post_burst,
    "starburst": _draw_starburst,
}
_AGN_HOSTS = {"agn_narrow": (0.3, 0.3, 0.4), "agn_broad": (0.3, 0.3, 0.4)}


def draw_parameters(n: int, seed: int) -> tuple[NDArray[np.str_], Draw]:
    """Draw what makes each galaxy.

    Parameters
    ----------
    n : int
        Number of galaxies, shared out by `FRACTIONS`.
    seed : int

    Returns
    -------
    types : ndarray of str, shape (n,)
    parameters : dict of str to ndarray, shape (n,)
        Drawn quantities; those that are measured later (``log_ssfr``, ``d4000``...) are 0.
    """
    if n < len(FRACTIONS):
        raise InputError(f"a library needs at least {len(FRACTIONS)} galaxies, not {n}")
    shares = np.round(np.cumsum([0.0, *FRACTIONS.values()]) * n).astype(int)
    counts = dict(zip(FRACTIONS, np.diff(shares).tolist(), strict=True))
    parts: list[Draw] = []
    # One stream per kind: changing one kind's draws leaves the others alone.
    streams = np.random.SeedSequence(seed).spawn(len(counts))
    for (kind, count), stream in zip(counts.items(), streams, strict=True):
        rng = np.random.default_rng(stream)
        if kind in _HOSTS:
            parts.append(_HOSTS[kind](rng, count))
            continue
        hosts = rng.multinomial(count, _AGN_HOSTS[kind])
        draws = [
            _HOSTS[host](rng, int(number))
            for host, number in zip(("passive", "green_valley", "star_forming"), hosts, strict=True)
        ]
        host_draw = {name: np.concatenate([d[name] for d in draws]) for name in draws[0]}
        parts.append(_draw_nucleus(rng, host_draw, kind == "agn_broad"))
    types = np.repeat(list(counts), list(counts.values()))
    return types, {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
