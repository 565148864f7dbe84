"""Redshifts added to a user's catalogue, which otherwise stays as it is: `enrich_catalogue`.

``catalogue`` is the public function, ``predictions`` finds the redshifts of a block of rows, and
``text`` (csv, ECSV), ``fits``, ``votable`` and ``parquet`` copy a file block by block with columns
added: what was there is copied, not read and written again. ``columns`` describes what is added.
"""

from gaia_redshift.enrich.catalogue import Enrichment, enrich_catalogue

__all__ = ["Enrichment", "enrich_catalogue"]
