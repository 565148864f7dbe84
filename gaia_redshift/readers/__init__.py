"""Read BP/RP spectra from any local form (`read_spectra`), or block by block (`iter_spectra`).

Modules: ``sources`` (what may be given, and whether it is the same as before), ``formats`` with
``content``, ``text``, ``binary``, ``hdf5``, ``votable`` and ``avro`` (files and zips to blocks of
columns), ``tables`` (those in memory to blocks), ``columns`` (which column is what), ``arrays`` and
``values`` (columns of arrays, and of one value a row), ``bands`` (blocks to `XPSpectra`), ``files``
(whole files to tables of any columns).
"""

from gaia_redshift.readers.bands import flag_duplicates
from gaia_redshift.readers.columns import parse_keep
from gaia_redshift.readers.reading import iter_spectra, read_spectra

__all__ = ["flag_duplicates", "iter_spectra", "parse_keep", "read_spectra"]
