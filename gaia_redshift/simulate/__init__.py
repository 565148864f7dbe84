"""Simulated galaxies in the archive's form, for training and tests.

galaxies (library of rest-frame spectra) -> survey (redshift, brightness, extent, transits) ->
instrument (coefficients) -> profile (smearing) -> noise -> `XPSpectra`, the type that real spectra
have, so that a simulated galaxy is written, read and predicted like a real one.
"""

from __future__ import annotations

from gaia_redshift.simulate.generate import simulate_blocks, simulate_spectra

__all__ = ["simulate_blocks", "simulate_spectra"]
