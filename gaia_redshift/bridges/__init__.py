"""Bridges to other packages: qp (distributions), specutils (spectra), SAMP (TOPCAT and others)."""

from gaia_redshift.bridges.distributions import to_qp
from gaia_redshift.bridges.messages import SampError, send_table
from gaia_redshift.bridges.spectra import to_specutils

__all__ = ["SampError", "send_table", "to_qp", "to_specutils"]
