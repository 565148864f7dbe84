"""Tables: what a column is, the columns that predictions have, and how they are written.

Modules: ``types`` (what values a column holds, in parts or whole), ``columns`` and ``stacks``
(astropy's tables), ``predictions`` (the output table), ``files`` (whole files), a module for each
format that is written, and ``arrow`` (to and from its arrays).
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
