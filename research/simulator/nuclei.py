"""Active nuclei: the continuum and the lines that they add to a host galaxy's spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_agn"]

Float = NDArray[np.float64]


def add_agn(edges: Float, host: Float, p: dict[str, float]) -> tuple[Float, float]:
    """Add an active nucleus to a host's spectrum.

    A reddened power law; narrow lines scaled to the equivalent width of [O III] 5007, with the
    drawn ratios and Case B-like Balmer lines reddened by ``narrow_av``; for a broad-line nucleus
    Gaussian Balmer lines, He I and Mg II. Iron and the Balmer continuum are left out.

    Parameters
    ----------
    edges : ndarray, shape (m + 1,), A
        Edges of the rest-frame wavelength bins.
    host : ndarray, shape (m,)
        Spectrum of the host, mean f_lambda of each bin.
    p : dict of str to float
        The galaxy's parameters, from `populations.draw_parameters`.

    Returns
    -------
    spectrum : ndarray, shape (m,)
    ha_flux : float
        Flux of narrow and broad H alpha, in the spectrum's unit times A.
    """
    centre = 0.5 * (edges[1:] + edges[:-1])
    slope, av = p["agn_slope"], p["agn_av"]

    def continuum_at(wavelength: Any) -> Any:
        law = (wavelength / 5500.0) ** -1.2 - (5100.0 / 5500.0) ** -1.2
        return (wavelength / 5100.0) ** slope * 10 ** (-0.4 * av * law)

    host_5100 = host[(centre > 5050) & (centre < 5150)].mean()
    level = p["agn_fraction"] / (1.0 - p["agn_fraction"]) * host_5100
    total = host + level * continuum_at(centre)

    hb, o3 = 1.0, 10 ** p["log_o3_hb"]
    ha = 3.0 * hb
    n2, s2, o1 = (ha * 10 ** p[f"log_{ion}_ha"] for ion in ("n2", "s2", "o1"))
    o2 = 10 ** p["log_o2_hb"]
    ne3 = o2 * 10 ** p["log_ne3_o2"]
    narrow = {
        2798.0: 0.3, 3346.0: 0.37 * 10 ** p["log_ne5_hb"], 3426.0: 10 ** p["log_ne5_hb"],
        3727.5: o2, 3868.8: ne3, 3889.0: 0.2, 3968.5: 0.16 + 0.31 * ne3, 4101.7: 0.26,
        4340.5: 0.47, 4363.2: 0.015 * o3, 4685.7: 10 ** p["log_he2_hb"], 4861.3: hb,
        4958.9: o3 / 2.98, 5006.8: o3, 5199.0: 0.1, 5875.6: 0.12, 6300.3: o1, 6363.8: o1 / 3.0,
        6548.1: n2 / 2.94, 6562.8: ha, 6583.5: n2, 6716.4: 0.53 * s2, 6730.8: 0.47 * s2,
        7135.8: 0.15, 7325.0: 0.1, 9068.6: 0.35, 9530.6: 0.9,
    }  # fmt: skip
    wave = np.array(list(narrow))
    flux = np.array(list(narrow.values())) * 10 ** (-0.4 * p["narrow_av"] * (wave / 5500.0) ** -1.2)
    near_o3 = total[(centre > 5050) & (centre < 5150)].mean()
    flux *= p["oiii_ew"] * near_o3 / flux[wave == 5006.8]
    fwhm = np.full(len(wave), 400.0)
    ha_flux = float(flux[wave == 6562.8][0])
    if p["agn_fwhm"] > 0:
        # Broad lines share the continuum's reddening; 3.1 is a typical intrinsic decrement.
        broad_wave = np.array([2798.0, 3970.1, 4101.7, 4340.5, 4861.3, 5875.6, 6562.8])
        ratio = np.array([0.0, 0.05, 0.08, 0.15, 1 / 3.1, 0.04, 1.0])
        law = continuum_at(broad_wave) / broad_wave**slope
        broad = p["broad_ha_ew"] * level * continuum_at(6562.8) * ratio * law / law[-1]
        broad[0] = 45.0 * level * continuum_at(2798.0)
        ha_flux += float(broad[-1])
        wave, flux = np.append(wave, broad_wave), np.append(flux, broad)
        fwhm = np.append(fwhm, np.full(len(broad_wave), p["agn_fwhm"]))
    return total + _bin_lines(edges, wave, flux, fwhm), ha_flux


def _bin_lines(edges: Float, wave: Float, flux: Float, fwhm: Float) -> Float:
    """Integrate Gaussian lines of given FWHM (km/s) over the bins."""
    from scipy.special import ndtr

    sigma = wave * fwhm / 299792.458 / 2.3548
    share = np.diff(ndtr((edges - wave[:, None]) / sigma[:, None]), axis=1)
    return flux @ share / np.diff(edges)
