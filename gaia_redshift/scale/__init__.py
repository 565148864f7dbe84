"""From one source to a whole release: inputs larger than memory, Dask and LSDB.

Modules: ``stream`` (read and predict block by block), ``inputs`` (what is to be done, and by what
it is recognised later), ``journal`` (what is done, so that a killed run goes on), ``outputs`` (the
file that is made of it), ``files`` (`predict_to_file`, which puts these together), ``progress``;
``partitions`` (a DataFrame at a time), and on top of it ``dask_frames`` and ``catalogs`` (LSDB).
"""

from gaia_redshift.scale.catalogs import predict_catalog
from gaia_redshift.scale.dask_frames import predict_dask
from gaia_redshift.scale.files import FileSummary, predict_to_file
from gaia_redshift.scale.partitions import predict_partition

__all__ = [
    "FileSummary",
    "predict_catalog",
    "predict_dask",
    "predict_partition",
    "predict_to_file",
]
