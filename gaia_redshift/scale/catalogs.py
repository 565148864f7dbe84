"""Redshifts of an LSDB catalogue (HATS): each partition by itself, positions kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gaia_redshift._extras import import_extra
from gaia_redshift.errors import InputError
from gaia_redshift.scale.partitions import choose_columns, run_task

__all__ = ["predict_catalog"]


def predict_catalog(
    catalog: Any,
    *,
    model: str | os.PathLike[str] = "default",
    keep: str | Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Predict the redshifts of an LSDB catalogue of spectra, lazily.

    Parameters
    ----------
    catalog : lsdb.Catalog
        With the archive's columns, as from ``lsdb.open_catalog``; opened with the columns that are
        needed it reads no others.
    model : str or path
        Every worker loads it once; a path must be there on every worker.
    keep, **options
        As for `predict_partition`. The catalogue's positions are always kept, so that the result
        is a catalogue again.

    Returns
    -------
    lsdb.Catalog
        With the partitions of ``catalog``; ``write_catalog`` saves it as HATS.

    Raises
    ------
    InputError
        If LSDB is not installed (extra ``lsdb``), it is no catalogue, or columns are missing.

    Examples
    --------
    >>> import lsdb  # doctest: +SKIP
    >>> table = predict_catalog(lsdb.open_catalog("xp_spectra"))  # doctest: +SKIP
    >>> table.write_catalog("redshifts")  # doctest: +SKIP
    """
    from gaia_redshift.pipeline import load_for_prediction

    lsdb = import_extra("lsdb", "lsdb")
    if not isinstance(catalog, lsdb.Catalog):
        raise InputError(f"predict_catalog takes an LSDB catalogue, not {type(catalog).__name__}")
    loaded = load_for_prediction(model, "cpu")  # this machine only plans
    names, kept = choose_columns(catalog.meta, loaded, keep, options.get("flux_errors"))
    info = catalog.hc_structure.catalog_info
    kept = list(dict.fromkeys([info.ra_column, info.dec_column, *kept]))
    wanted = dict.fromkeys([*names, *kept])
    frame = catalog[[name for name in wanted if name in catalog.columns]]  # no others are read
    # LSDB finds the columns of the result by calling it without rows.
    return frame.map_partitions(run_task, model=model, keep=kept, **options)
