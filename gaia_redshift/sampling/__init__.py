"""From spectra to vectors: `sample` multiplies, `bases` are what it multiplies by."""

from __future__ import annotations

from gaia_redshift.sampling.bases import BasisSet, register_basis_set, sample_wavelengths
from gaia_redshift.sampling.sample import sample_block, sample_spectra, warn_of_unknown_sets

__all__ = [
    "BasisSet",
    "register_basis_set",
    "sample_block",
    "sample_spectra",
    "sample_wavelengths",
    "warn_of_unknown_sets",
]
