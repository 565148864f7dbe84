"""Spectroscopic redshifts beside Gaia sources: `crossmatch_sdss` and `crossmatch_catalogue`.

``matching`` decides which object is which source's, and says in bits how sure that is; the objects
come from services (``sdss``) or from catalogues at hand (``catalogues``).
"""

from gaia_redshift.crossmatch.crossmatch import crossmatch_catalogue, crossmatch_sdss
from gaia_redshift.flags import MatchFlag, decode_match_flags, describe_match_flags

__all__ = [
    "MatchFlag",
    "crossmatch_catalogue",
    "crossmatch_sdss",
    "decode_match_flags",
    "describe_match_flags",
]
