"""Simulated galaxies in the archive's form, for training and tests.

galaxies (library of rest-frame spectra) -> survey (redshift, type, colour, brightness, extent,
transits, nuisances) -> instrument (coefficients) -> profile (smearing) -> noise -> `XPSpectra`,
the type that real spectra have, so that a simulated galaxy is written, read and predicted like a
real one. Stars and quasars (contaminants) and spectra of the user's (other) take the same way.
"""

from __future__ import annotations

from gaia_redshift.simulate.contaminants import (
    simulate_contaminant_blocks,
    simulate_contaminants,
)
from gaia_redshift.simulate.generate import simulate_blocks, simulate_spectra
from gaia_redshift.simulate.instrument import load_instrument
from gaia_redshift.simulate.other import simulate_seds

__all__ = [
    "load_instrument",
    "simulate_blocks",
    "simulate_contaminant_blocks",
    "simulate_contaminants",
    "simulate_seds",
    "simulate_spectra",
]
