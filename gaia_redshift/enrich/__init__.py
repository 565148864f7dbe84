"""Redshifts added to a user's catalogue, which otherwise stays as it is: `enrich_catalogue`.

``catalogue`` is the public function, ``predictions`` finds what is added to a block of rows, and
``text`` (csv, ECSV), ``binary`` (FITS, Parquet) and ``votable`` copy a file block by block with
columns added: what was there is copied, not read and written again.
"""

from gaia_redshift.enrich.catalogue import Enrichment, enrich_catalogue

__all__ = ["Enrichment", "enrich_catalogue"]
