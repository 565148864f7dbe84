"""The instrument: spectral energy distributions to BP/RP coefficients in the archive's form.

GaiaXPy's external calibration (Montegriffo et al. 2023) gives the image of each internal basis
function in absolute wavelength. Here it is inverted: a spectrum's coefficients are the damped
least-squares solution on those images, every wavelength weighted in photo-electrons. The line
spread function comes with the bases. A galaxy's own light profile then smears its slitless
spectrum along the scan, which is a linear map of the coefficients for each profile.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.bases import read_shipped_config

__all__ = ["BANDS", "Instrument", "load_instrument"]

BANDS = ("bp", "rp")
N_BASES = 55
"""Basis functions per band of Gaia DR3's Hermite set."""

_MODELS = {"bp": "bpC03_v375wi", "rp": "rpC03_v142r"}
_WAVELENGTH_EDGES = {"bp": (321.5, 689.5), "rp": (611.5, 1084.5)}
_DAMPING = 1e-3
"""Singular values below this part of the largest are damped: beyond it lies calibration noise."""

WINDOW = (0.0, 60.0)
"""Extent of a BP/RP window in pseudo-wavelength (samples of 59 mas along scan)."""
_STEP = 0.1
_MARGIN = 60.0
"""How far beyond the window the bases are continued before smearing."""


@dataclass(frozen=True, eq=False)
class Band:
    """One photometer: everything is linear, so arrays say it all.

    Parameters
    ----------
    edges : ndarray, shape (m + 1,), nm
        Wavelength bins in which spectra are handed over.
    wavelength : ndarray, shape (m,), nm
        Their centres.
    response : ndarray, shape (m,)
        Photo-electrons per photon at the centres.
    to_coefficients : ndarray, shape (m, 55), e-/s per (W m-2 nm-1)
        Maps a flux density to internal coefficients.
    images : ndarray, shape (55, m), (W m-2 nm-1) per (e-/s)
        Each basis function's image in absolute flux.
    position : ndarray, shape (p,)
        Fine grid of pseudo-wavelengths.
    bases : ndarray, shape (55, p)
        The basis functions on it.
    """

    edges: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    response: NDArray[np.float64]
    to_coefficients: NDArray[np.float64]
    images: NDArray[np.float64]
    position: NDArray[np.float64]
    bases: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Instrument:
    """BP and RP of Gaia DR3, as GaiaXPy's calibration models describe them."""

    bp: Band
    rp: Band

    def disperse(
        self, flux_bp: NDArray[np.floating], flux_rp: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn flux densities into the coefficients of point sources.

        Parameters
        ----------
        flux_bp, flux_rp : ndarray, shapes (n, m_bp) and (n, m_rp), W m-2 nm-1
            Mean flux density in the bands' wavelength bins.

        Returns
        -------
        bp, rp : ndarray, shape (n, 55), e-/s
        """
        return flux_bp @ self.bp.to_coefficients, flux_rp @ self.rp.to_coefficients

    def calibrate(
        self, bp: NDArray[np.floating], rp: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn coefficients into flux densities (W m-2 nm-1) at the bands' bin centres."""
        return bp @ self.bp.images, rp @ self.rp.images


def _load_band(band: str) -> Band:
    import os

    with quiet_gaiaxpy():
        from gaiaxpy.calibrator.external_instrument_model import ExternalInstrumentModel
        from gaiaxpy.config.paths import config_path
        from gaiaxpy.converter.converter import get_design_matrices
        from gaiaxpy.core.nature import PLANCK, C
        from gaiaxpy.core.satellite import TELESCOPE_PUPIL_AREA
        from gaiaxpy.spectrum.sampled_basis_functions import SampledBasisFunctions

        files = [
            os.path.join(config_path, f"{_MODELS[band]}_{part}.csv")
            for part in ("dispersion", "response", "bases")
        ]
        model = ExternalInstrumentModel.from_config_csv(*files)
        low, high = _WAVELENGTH_EDGES[band]
        edges = np.arange(low, high + 0.5, 1.0)
        wavelength = 0.5 * (edges[1:] + edges[:-1])
        images = SampledBasisFunctions.from_external_instrument_model(
            wavelength, np.ones(wavelength.size), model
        ).get_design_matrix()
        response = np.maximum(np.asarray(model.get_response(wavelength), dtype=float), 0.0)
        electrons = TELESCOPE_PUPIL_AREA * response * wavelength / (1e9 * C * PLANCK)
        position = np.arange(-_MARGIN, WINDOW[1] + _MARGIN + 0.5 * _STEP, _STEP)
        config = read_shipped_config("gaiaxpy:hermite_bases_file")
        bases = get_design_matrices(position, config)[band].design_matrix
    u, s, vt = np.linalg.svd((images * electrons).T, full_matrices=False)
    relative = s / s[0]
    damped = relative / (relative**2 + _DAMPING**2) / s[0]
    to_coefficients = electrons[:, None] * ((u * damped) @ vt)
    return Band(
        edges=edges,
        wavelength=wavelength,
        response=response,
        to_coefficients=to_coefficients,
        images=np.asarray(images),
        position=position,
        bases=np.asarray(bases),
    )


@functools.lru_cache(maxsize=1)
def load_instrument() -> Instrument:
    """Return the instrument, built from GaiaXPy's calibration files on first use (seconds)."""
    return Instrument(bp=_load_band("bp"), rp=_load_band("rp"))
