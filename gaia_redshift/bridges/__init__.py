"""Bridges to other packages: qp (distributions), specutils and astropy (spectra), SAMP (TOPCAT)."""

from gaia_redshift.bridges.messages import SampError, send_table
from gaia_redshift.bridges.packages import register_formats, to_qp, to_specutils, to_table

__all__ = ["SampError", "register_formats", "send_table", "to_qp", "to_specutils", "to_table"]
