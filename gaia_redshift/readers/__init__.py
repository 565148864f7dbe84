"""Read BP/RP spectra from any local form (`read_spectra`), or block by block (`iter_spectra`).

Modules: ``sources`` (what may be given), ``formats`` with ``content``, ``text``, ``binary``,
``hdf5``, ``votable`` and ``avro`` (files and zips to blocks of columns), ``whole`` (any table of a
file, lists of ids), ``results`` (tables of predictions), ``tables`` (tables in memory to blocks),
``columns`` (which column is what), ``arrays`` (array columns), ``angles``, ``bands`` and ``kept``
(blocks to `XPSpectra`), ``identity`` (whether it is the same input as before).
"""

from gaia_redshift.readers.bands import flag_duplicates
from gaia_redshift.readers.columns import parse_keep
from gaia_redshift.readers.reading import iter_spectra, read_spectra

__all__ = ["flag_duplicates", "iter_spectra", "parse_keep", "read_spectra"]
