"""Redshifts of DataFrames: of one, and of Dask's and LSDB's (HATS), partition by partition.

Dask and LSDB do it lazily, on whatever cluster Dask runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gaia_redshift._extras import import_extra
from gaia_redshift._threads import one_thread
from gaia_redshift.errors import InputError
from gaia_redshift.predict.settings import load_for_prediction
from gaia_redshift.predict.table import predict_redshift, predict_table
from gaia_redshift.readers.columns import ReadOptions, find_layout, parse_keep

if TYPE_CHECKING:
    import pandas as pd

    from gaia_redshift.predict.settings import Model

__all__ = ["predict_catalog", "predict_dask", "predict_partition"]

BLOCK_SIZE = 8192
_SHAPING = ("prior", "pdf", "std", "peaks", "shape")
"""Options on which the columns of the result depend."""
_SOURCE_ID = ("source_id", "sourceid")


def predict_partition(
    frame: pd.DataFrame,
    *,
    model: str | os.PathLike[str] | Model = "default",
    keep: str | Sequence[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Predict the redshifts of a DataFrame of spectra.

    Parameters
    ----------
    frame : DataFrame, n rows
        The archive's columns, arrays as lists or arrays in each row. Without rows, the result has
        the same columns and types and no rows.
    model : str, path or model
        As for `gaia_redshift.predict_table`. A name or path is loaded once in each process.
    keep : str, list of str, or "all", optional
        Columns to carry along, as they are; "all" leaves out those of the spectra.
    **options
        Further arguments of `gaia_redshift.predict_table`.

    Returns
    -------
    DataFrame, n rows
        With the index of ``frame``. ``source_id`` is int64, ``redshift_cnn`` float32 with NaN where
        there is none, ``flags_cnn`` int32. Sources are flagged as duplicates within the frame.

    Raises
    ------
    InputError
        If columns are missing.
    ModelError
        If the model cannot be loaded.

    Examples
    --------
    >>> from gaia_redshift import predict_partition
    >>> ddf.map_partitions(predict_partition, meta=predict_partition(ddf._meta))  # doctest: +SKIP
    """
    if not len(frame):
        return _make_meta(frame, model=model, keep=keep, **options)
    loaded = load_for_prediction(model, options.pop("device", "auto"))
    names, kept = _choose_columns(frame, loaded, keep, options.get("flux_errors"))
    spectra = {name: _take(frame, name) for name in names}
    table = predict_table(spectra, model=loaded, block_size=BLOCK_SIZE, **options)
    return _to_frame(table, frame, kept)


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
    import_extra("dask.dataframe", "dask")
    if not hasattr(frame, "map_partitions") or not hasattr(frame, "_meta"):
        raise InputError(
            f"predict_dask takes a Dask DataFrame, not {type(frame).__name__}: predict_partition"
            " takes a pandas one, predict_catalog an LSDB catalogue"
        )
    loaded = load_for_prediction(model, "cpu")  # this machine only plans
    names, kept = _choose_columns(frame._meta, loaded, keep, options.get("flux_errors"))
    wanted = dict.fromkeys([*names, *kept])
    frame = frame[[name for name in wanted if name in frame.columns]]  # no others are read
    keep = kept or None
    meta = _make_meta(frame._meta, model=model, keep=keep, **options)
    return frame.map_partitions(_run_task, model=model, keep=keep, meta=meta, **options)


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
    lsdb = import_extra("lsdb", "lsdb")
    if not isinstance(catalog, lsdb.Catalog):
        raise InputError(f"predict_catalog takes an LSDB catalogue, not {type(catalog).__name__}")
    loaded = load_for_prediction(model, "cpu")  # this machine only plans
    names, kept = _choose_columns(catalog.meta, loaded, keep, options.get("flux_errors"))
    info = catalog.hc_structure.catalog_info
    kept = list(dict.fromkeys([info.ra_column, info.dec_column, *kept]))
    wanted = dict.fromkeys([*names, *kept])
    frame = catalog[[name for name in wanted if name in catalog.columns]]  # no others are read
    # LSDB finds the columns of the result by calling it without rows.
    return frame.map_partitions(_run_task, model=model, keep=kept, **options)


def _run_task(frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Do `predict_partition` as a task of Dask, which runs as many at once as it has threads."""
    with one_thread():
        return predict_partition(frame, **options)


def _make_meta(
    frame: pd.DataFrame,
    *,
    model: str | os.PathLike[str] | Model = "default",
    keep: str | Sequence[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Return what `predict_partition` gives for such a frame, without rows.

    The processor is used whatever the ``device``, which the machine that plans the work need not
    have.
    """
    from gaia_redshift.grid import N_FLUX
    from gaia_redshift.model.keras_engine import check_device

    check_device(options.pop("device", "auto"))
    loaded = load_for_prediction(model, "cpu")
    _, kept = _choose_columns(frame, loaded, keep, options.get("flux_errors"))
    # One vector shows which columns there are.
    more = {key: value for key, value in options.items() if key in _SHAPING}
    table = predict_redshift(np.ones((1, N_FLUX)), model=loaded, **more)
    return _to_frame(table[:0], frame.iloc[:0], kept)


def _choose_columns(
    frame: pd.DataFrame,
    model: Model,
    keep: str | Sequence[str] | None,
    flux_errors: bool | None,
) -> tuple[list[str], list[str]]:
    """Return the columns (or the index) with the spectra, and the columns to carry along.

    Errors and correlations are among the first only where they are needed.
    """
    errors = model.uses_errors if flux_errors is None else flux_errors
    names = [str(name) for name in frame.columns]
    index = [name for name in [str(frame.index.name)] if name.lower() in _SOURCE_ID]
    layout = find_layout([*names, *index], ReadOptions(errors, errors), "DataFrame")
    needed = layout.names
    if keep is None:
        return needed, []
    layout = find_layout(names + index, ReadOptions(keep=parse_keep(keep)), "DataFrame")
    return needed, [name for name in layout.keep.values() if name in names]


def _take(frame: pd.DataFrame, name: str) -> Any:
    """Return a column or the index."""
    if name not in frame.columns:
        return frame.index.to_series()
    column = frame[name]
    if "coef" in name.lower() and isinstance(cell := column.iloc[0], str):
        words = cell.strip("[]() \n").split()
        if len(words) > 1 and "," not in cell:
            raise InputError(
                f"DataFrame: column '{name}' holds arrays turned into text, which has lost digits:"
                " set dask.config.set({'dataframe.convert-string': False}) before from_pandas, or"
                " read Parquet"
            )
    return column


def _to_frame(table: Any, frame: pd.DataFrame, kept: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table.colnames:
        values: Any = np.ma.asarray(table[name])
        values = values.filled(np.nan) if values.dtype.kind == "f" else values.data
        columns[name] = values if values.ndim == 1 else _to_lists(values)
    result = pd.DataFrame(columns, index=frame.index)
    for name in kept:  # as they are, whatever their type
        result[f"{name}_in" if name in columns else name] = frame[name]
    return result


def _to_lists(values: np.ndarray[Any, Any]) -> Any:
    """Return rows of arrays as a column that Parquet and Dask know the type of."""
    import pandas as pd
    import pyarrow as pa

    flat = pa.array(values.ravel())
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1])
    lists = pa.ListArray.from_arrays(offsets, flat)
    return pd.array(lists, dtype=pd.ArrowDtype(lists.type))
