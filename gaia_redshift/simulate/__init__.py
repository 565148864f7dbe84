"""Simulated galaxies in the archive's form, for training and tests.

galaxies (library of rest-frame spectra) -> survey (redshift, type, colour, brightness, extent,
transits, nuisances) -> instrument (coefficients) -> profile (smearing) -> noise -> `XPSpectra`,
the type that real spectra have, so that a simulated galaxy is written, read and predicted like a
real one. Stars and quasars (contaminants) and spectra of the user's take the same way.
"""

from __future__ import annotations

from gaia_redshift.simulate.generate import simulate_blocks, simulate_seds, simulate_spectra
from gaia_redshift.simulate.instrument import load_instrument

__all__ = ["load_instrument", "simulate_blocks", "simulate_seds", "simulate_spectra"]
