"""Tables: what a column is, the columns that predictions have, and how they are written.

Modules: ``types`` (what values a column holds, in parts or whole), ``columns`` (to and from
astropy's tables, and stacked), ``predictions`` (the output table), ``files`` (whole files), and the
formats that are written: ``arrow`` (Parquet, csv, ECSV), ``fits``, ``hdf5`` and ``votable``.
"""

from gaia_redshift.tables.files import check_output, write_table
from gaia_redshift.tables.predictions import (
    COLUMNS,
    PredictedRows,
    build_table,
    describe_provenance,
    join_meta,
    select_columns,
    stack_rows,
)

__all__ = [
    "COLUMNS",
    "PredictedRows",
    "build_table",
    "check_output",
    "describe_provenance",
    "join_meta",
    "select_columns",
    "stack_rows",
    "write_table",
]
