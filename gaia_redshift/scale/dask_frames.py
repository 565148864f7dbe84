"""Redshifts of a Dask DataFrame: each partition by itself, on whatever cluster Dask runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from gaia_redshift._extras import import_extra
from gaia_redshift.errors import InputError
from gaia_redshift.scale.partitions import choose_columns, make_meta, run_task

__all__ = ["predict_dask"]


def predict_dask(
    frame: Any,
    *,
    model: str | os.PathLike[str] = "default",
    keep: str | Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Predict the redshifts of a Dask DataFrame of spectra, lazily.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
        The archive's columns, as from ``dask.dataframe.read_parquet``.
    model : str or path
        Every worker loads it once; a path must be there on every worker.
    keep, **options
        As for `predict_partition`.

    Returns
    -------
    dask.dataframe.DataFrame
        With the partitions of ``frame``; computed when Dask is asked to.

    Raises
    ------
    InputError
        If Dask is not installed (extra ``dask``), it is another kind of frame, or columns are
        missing.

    Examples
    --------
    >>> import dask.dataframe as dd  # doctest: +SKIP
    >>> table = predict_dask(dd.read_parquet("spectra/*.parquet"))  # doctest: +SKIP
    >>> table.to_parquet("redshifts")  # doctest: +SKIP
    """
    from gaia_redshift.pipeline import load_for_prediction

    import_extra("dask.dataframe", "dask")
    if not hasattr(frame, "map_partitions") or not hasattr(frame, "_meta"):
        raise InputError(
            f"predict_dask takes a Dask DataFrame, not {type(frame).__name__}: predict_partition"
            " takes a pandas one, predict_catalog an LSDB catalogue"
        )
    loaded = load_for_prediction(model, "cpu")  # this machine only plans
    names, kept = choose_columns(frame._meta, loaded, keep, options.get("flux_errors"))
    wanted = dict.fromkeys([*names, *kept])
    frame = frame[[name for name in wanted if name in frame.columns]]  # no others are read
    keep = kept or None
    meta = make_meta(frame._meta, model=model, keep=keep, **options)
    return frame.map_partitions(run_task, model=model, keep=keep, meta=meta, **options)
