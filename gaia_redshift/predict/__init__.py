"""From spectra to redshifts: a table in memory, a file of any size, Dask's and LSDB's frames.

Modules: ``settings`` (how to predict), ``blocks`` (a block of spectra to rows), ``table``
(`predict_table`: in memory); ``stream`` (read ahead and predict block by block), ``processes``
(share files among such streams), ``journal`` (what is done, so that a killed run goes on),
``outputs`` (the file that is made of it), ``files`` (`predict_to_file`, which puts these together),
``progress``; ``frames`` (pandas, Dask and LSDB).
"""

from gaia_redshift.predict.files import FileSummary, predict_to_file
from gaia_redshift.predict.frames import predict_catalog, predict_dask, predict_partition
from gaia_redshift.predict.settings import load_for_prediction
from gaia_redshift.predict.table import join_predictions, predict_redshift, predict_table

__all__ = [
    "FileSummary",
    "join_predictions",
    "load_for_prediction",
    "predict_catalog",
    "predict_dask",
    "predict_partition",
    "predict_redshift",
    "predict_table",
    "predict_to_file",
]
