"""Redshift distributions as an ensemble of qp, the package of the LSST collaboration: `to_qp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift._extras import import_extra
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.peaks import PDF, take_distributions

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["to_qp"]

ANCILLARY = (
    "source_id",
    "redshift_cnn",
    "redshift_cnn_lower",
    "redshift_cnn_upper",
    "redshift_cnn_std",
    "flags_cnn",
)
"""Columns of predictions that go along, where the table has them."""


@preserve_settings()
def to_qp(table: Table, *, grid: ArrayLike | None = None) -> Any:
    """Turn predicted redshift distributions into an ensemble of qp.

    Parameters
    ----------
    table : Table, n rows
        Predictions with the column ``redshift_cnn_pdf``: ``predict_table(..., pdf=True)``.
    grid : array-like, shape (m + 1,), optional
        Edges of the bins of redshift, where the table does not hold them.

    Returns
    -------
    qp.Ensemble
        Of histograms (``qp.hist``), one for each row that has a distribution. Rows without one,
        masked or NaN, are left out: qp cannot hold them. The ancillary table (``ensemble.ancil``)
        says which row of ``table`` each distribution is (``row``), and repeats ``source_id``, the
        numbers predicted, and ``flags_cnn``.

    Raises
    ------
    InputError
        If qp is not installed (extra ``qp``), it is no such table, its bins are not known or do
        not fit, or no row has a distribution.

    Examples
    --------
    >>> from gaia_redshift import predict_table, to_qp
    >>> table = predict_table("XP_CONTINUOUS_RAW.csv", pdf=True)  # doctest: +SKIP
    >>> to_qp(table).median()  # doctest: +SKIP
    """
    if not hasattr(table, "colnames"):
        raise InputError(f"to_qp takes a table of predictions, not {type(table).__name__}")
    density, edges = take_distributions(table, grid)
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(density).all(axis=1) & (density >= 0).all(axis=1)
    usable &= np.where(np.reshape(usable, (-1, 1)), density, 0.0).sum(axis=1) > 0
    rows = np.flatnonzero(usable)
    if not len(rows):
        raise InputError(f"no row of '{PDF}' holds a distribution: all are masked or NaN")
    ancillary: dict[str, NDArray[Any]] = {
        name: np.asarray(_fill(table[name])[rows]) for name in ANCILLARY if name in table.colnames
    }
    ancillary["row"] = rows.astype(np.int64)
    qp = import_extra("qp", "qp")
    # qp normalises: densities of 32 bits add to 1 within some 1e-6 only.
    return qp.Ensemble(qp.hist, data={"bins": edges, "pdfs": density[rows]}, ancil=ancillary)


def _fill(column: Any) -> NDArray[Any]:
    values = np.ma.asarray(column)
    return np.ma.filled(values, np.nan) if values.dtype.kind == "f" else np.ma.getdata(values)
