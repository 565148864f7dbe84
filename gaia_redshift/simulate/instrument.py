"""The instrument: spectral energy distributions to BP/RP coefficients in the archive's form.

GaiaXPy's external calibration (Montegriffo et al. 2023) gives the image of each internal basis
function in absolute wavelength. Here it is inverted: a spectrum's coefficients are the damped
least-squares solution on those images, every wavelength weighted in photo-electrons. The line
spread function comes with the bases. A galaxy's own light profile then smears its slitless
spectrum along the scan, which is a linear map of the coefficients for each profile.

A spectrum's value is in e-/s per unit pseudo-wavelength; its integral over the window is the
photometric flux. Any calibration in GaiaXPy's format and any set of bases will do
(`load_instrument`): light is dispersed and smeared on the calibration's own bases, and published on
the set asked for.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import quiet_gaiaxpy
from gaia_redshift.errors import InputError
from gaia_redshift.sampling.bases import evaluate_bases, get_basis_set

__all__ = ["BANDS", "Instrument", "load_instrument"]

Float = NDArray[np.float64]

BANDS = ("bp", "rp")
N_BASES = 55
"""Basis functions per band of Gaia DR3's Hermite set."""

MODELS = {"bp": "bpC03_v375wi", "rp": "rpC03_v142r"}
"""GaiaXPy's external calibration of Gaia DR3."""
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

    Spectra are handed over in wavelength bins (nm); ``to_coefficients`` maps a flux density (W m-2
    nm-1) to coefficients of the calibration's bases, e-/s, and ``images`` back. ``position`` is a
    fine grid of pseudo-wavelengths from beyond one end of the window to beyond the other, with the
    calibration's ``bases`` on it and the ``published`` ones within the window; ``to_published``
    turns coefficients of the one set into those of the other, None where they are the same.
    """

    edges: Float  # (m + 1,)
    wavelength: Float  # (m,), their centres
    response: Float  # (m,), photo-electrons per photon
    to_coefficients: Float  # (m, k)
    images: Float  # (k, m)
    position: Float  # (p,)
    bases: Float  # (k, p)
    published: Float  # (j, q)
    to_published: Float | None  # (k, j)
    basis_id: int  # the archive's, 0 if it has none

    @functools.cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Which points of the fine grid lie in the window, shape (p,)."""
        low, high = WINDOW
        return (self.position >= low - 1e-6) & (self.position <= high + 1e-6)

    @functools.cached_property
    def integral(self) -> Float:
        """Integral of each of the calibration's bases over the window, shape (k,)."""
        return np.asarray(np.trapezoid(self.bases[:, self.inside], self.position[self.inside]))

    def fit(self, curves: NDArray[np.floating]) -> Float:
        """Return coefficients (n, k) of curves given on the window's points, shape (n, q)."""
        return curves @ self._solution

    @functools.cached_property
    def _solution(self) -> Float:
        u, s, vt = np.linalg.svd(self.bases[:, self.inside].T, full_matrices=False)
        damped = s / (s**2 + (1e-6 * s[0]) ** 2)
        return ((vt.T * damped) @ u.T).T


@dataclass(frozen=True, eq=False)
class Instrument:
    """BP and RP as calibration models in GaiaXPy's format describe them."""

    bp: Band
    rp: Band

    def disperse(
        self, flux_bp: NDArray[np.floating], flux_rp: NDArray[np.floating]
    ) -> tuple[Float, Float]:
        """Turn flux densities into the coefficients of point sources.

        Parameters
        ----------
        flux_bp, flux_rp : ndarray, shapes (n, m_bp) and (n, m_rp), W m-2 nm-1
            Mean flux density in the bands' wavelength bins.

        Returns
        -------
        bp, rp : ndarray, shape (n, k), e-/s
        """
        return flux_bp @ self.bp.to_coefficients, flux_rp @ self.rp.to_coefficients

    def calibrate(self, bp: NDArray[np.floating], rp: NDArray[np.floating]) -> tuple[Float, Float]:
        """Turn coefficients into flux densities (W m-2 nm-1) at the bands' bin centres."""
        return bp @ self.bp.images, rp @ self.rp.images

    def publish(self, coefficients: NDArray[np.floating], band: str) -> Float:
        """Turn coefficients (n, k) of the calibration's bases into published ones (n, j)."""
        change = getattr(self, band).to_published
        return np.asarray(coefficients) if change is None else coefficients @ change


def _find_files(model: str) -> list[str]:
    """Return the three files of a calibration: one that GaiaXPy ships, or ``PREFIX_*.csv``."""
    from gaiaxpy.config.paths import config_path

    prefix = model if os.path.dirname(model) else os.path.join(config_path, model)
    found = [f"{prefix}_{part}.csv" for part in ("dispersion", "response", "bases")]
    missing = [name for name in found if not os.path.exists(name)]
    if missing:
        raise InputError(
            f"no calibration '{model}': {missing[0]} is not there; it is the name of one that"
            " GaiaXPy ships, or a path that _dispersion.csv, _response.csv and _bases.csv follow"
        )
    return found


def _load_band(band: str, model_name: str, model_bases: str, basis_set: str) -> Band:
    with quiet_gaiaxpy():
        from gaiaxpy.calibrator.external_instrument_model import ExternalInstrumentModel
        from gaiaxpy.core.nature import PLANCK, C
        from gaiaxpy.core.satellite import TELESCOPE_PUPIL_AREA
        from gaiaxpy.spectrum.sampled_basis_functions import SampledBasisFunctions

        model = ExternalInstrumentModel.from_config_csv(*_find_files(model_name))
        low, high = _WAVELENGTH_EDGES[band]
        edges = np.arange(low, high + 0.5, 1.0)
        wavelength = 0.5 * (edges[1:] + edges[:-1])
        images = SampledBasisFunctions.from_external_instrument_model(
            wavelength, np.ones(wavelength.size), model
        ).get_design_matrix()
        response = np.maximum(np.asarray(model.get_response(wavelength), dtype=float), 0.0)
        electrons = TELESCOPE_PUPIL_AREA * response * wavelength / (1e9 * C * PLANCK)
    position = np.arange(-_MARGIN, WINDOW[1] + _MARGIN + 0.5 * _STEP, _STEP)
    inside = (position >= WINDOW[0] - 1e-6) & (position <= WINDOW[1] + 1e-6)
    bases = evaluate_bases(model_bases, {band: position})[band]
    if len(bases) != len(images):
        raise InputError(
            f"calibration '{model_name}' has {len(images)} {band.upper()} bases, but the set"
            f" {model_bases} has {len(bases)}"
        )
    published, change = bases[:, inside], None
    if basis_set != model_bases:
        published = evaluate_bases(basis_set, {band: np.clip(position[inside], *WINDOW)})[band]
        change = np.linalg.lstsq(published.T, bases[:, inside].T, rcond=1e-9)[0].T
    u, s, vt = np.linalg.svd((images * electrons).T, full_matrices=False)
    relative = s / s[0]
    damped = relative / (relative**2 + _DAMPING**2) / s[0]
    return Band(
        edges=edges,
        wavelength=wavelength,
        response=response,
        to_coefficients=electrons[:, None] * ((u * damped) @ vt),
        images=np.asarray(images),
        position=position,
        bases=np.asarray(bases),
        published=np.asarray(published),
        to_published=None if change is None else np.asarray(change, dtype=np.float64),
        basis_id=getattr(get_basis_set(basis_set), f"{band}_basis_id") or 0,
    )


def load_instrument(
    bp_model: str = MODELS["bp"],
    rp_model: str = MODELS["rp"],
    *,
    model_bases: str = "dr3-hermite",
    basis_set: str | None = None,
) -> Instrument:
    """Return an instrument, built from calibration files on first use (seconds) and kept.

    Parameters
    ----------
    bp_model, rp_model : str
        External calibrations: names of some that GaiaXPy ships, or paths that
        ``_dispersion.csv``, ``_response.csv`` and ``_bases.csv`` follow.
    model_bases : str
        Name of the set of bases on which the calibrations stand.
    basis_set : str, optional
        Name of the set on which spectra are published; by default the calibrations' own.

    Returns
    -------
    Instrument

    Raises
    ------
    InputError
        If a calibration or a set of bases is not there, or they do not belong together.
    """
    return _load_instrument(bp_model, rp_model, model_bases, basis_set or model_bases)


@functools.lru_cache(maxsize=8)
def _load_instrument(bp: str, rp: str, model_bases: str, basis_set: str) -> Instrument:
    bands = (
        _load_band("bp", bp, model_bases, basis_set),
        _load_band("rp", rp, model_bases, basis_set),
    )
    return Instrument(*bands)
