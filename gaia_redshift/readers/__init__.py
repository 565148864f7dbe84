"""Read BP/RP spectra from any local form (`read_spectra`), or block by block (`iter_spectra`).

Modules: ``sources`` (what may be given), ``formats`` with ``content``, ``text``, ``binary``,
``hdf5``, ``votable``, ``avro`` and ``archives`` (files to blocks of columns), ``whole`` (any table
of a file), ``tables`` (tables in memory to blocks of columns), ``columns`` (which column is what),
``arrays`` (array columns), ``bands`` and ``kept`` (blocks to `XPSpectra`).
"""

from gaia_redshift.readers.bands import flag_duplicates
from gaia_redshift.readers.columns import parse_keep
from gaia_redshift.readers.reading import iter_spectra, read_spectra

__all__ = ["flag_duplicates", "iter_spectra", "parse_keep", "read_spectra"]
