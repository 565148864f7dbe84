"""`evaluate_table`: one column of predictions against true redshifts, in every respect at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from gaia_redshift import __version__
from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.metrics.distributions import (
    bin_coverage,
    compute_coverage,
    compute_crps,
    compute_pit,
    find_quantiles,
    summarise_crps,
    summarise_pit,
)
from gaia_redshift.metrics.points import (
    REDSHIFT_EDGES,
    bin_metrics,
    compute_metrics,
    to_floats,
)

__all__ = [
    "BRIGHTNESS_COLUMNS",
    "Evaluation",
    "evaluate_table",
    "find_training_seed",
    "take_column",
    "take_redshifts",
]

Float = NDArray[np.float64]

BRIGHTNESS_COLUMNS = ("phot_g_mean_mag", "phot_rp_mean_mag", "rp_flux")
"""Columns of brightness, in the order in which they are looked for."""
BRIGHTNESS_BINS = 5
LARGEST = 1e4
_INTERVAL = 0.68
_WIDE_INTERVAL = 0.95
_PROVENANCE = (
    "model_name",
    "model_version",
    "model_sha256",
    "model_trained_on",
    "data_release",
    "inputs",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How one column of predictions compares with true redshifts.

    Parameters
    ----------
    prediction, truth : str
        Names of the columns.
    simulated : bool
        Whether all galaxies come from the package's simulator.
    metrics : dict
        As `gaia_redshift.metrics.points.compute_metrics` gives, with errors; and ``n_rows``.
    tables : dict of Table
        ``by_true``, ``by_predicted`` (redshift bins) and, where the table has what they need,
        ``by_brightness``, ``by_flag``, ``coverage`` (overall), ``coverage_by_predicted``,
        ``coverage_by_brightness``, ``pit`` (histogram).
    z_true, z_pred : ndarray, shape (n,)
        NaN where missing.
    pit : dict or None
        As `gaia_redshift.metrics.distributions.summarise_pit` gives.
    crps : dict or None
        ``n``, ``n_masked``, ``crps``, ``crps_error``.
    brightness : str or None
        Column of the brightness bins.
    meta : dict
        Versions and provenance.
    """

    prediction: str
    truth: str
    simulated: bool
    metrics: dict[str, Any]
    tables: dict[str, Table]
    z_true: Float
    z_pred: Float
    pit: dict[str, Any] | None = None
    crps: dict[str, Any] | None = None
    brightness: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.z_true)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as plain Python objects that JSON can hold; None where NaN."""
        content = {
            "prediction": self.prediction,
            "truth": self.truth,
            "simulated": self.simulated,
            "metrics": self.metrics,
            "pit": self.pit,
            "crps": self.crps,
            "brightness": self.brightness,
            "tables": {name: table_to_dict(table) for name, table in self.tables.items()},
            "meta": self.meta,
        }
        return {key: to_plain(value) for key, value in content.items()}

    def __repr__(self) -> str:
        m = self.metrics
        return (
            f"<Evaluation of {self.prediction} against {self.truth}: n {m['n']:,},"
            f" MAE {m['mae']:.4f}, bias {m['bias']:+.4f}, sigma_NMAD {m['sigma_nmad']:.4f}>"
        )


@preserve_settings()
def evaluate_table(
    table: Table,
    truth: str = "redshift_true",
    prediction: str = "redshift_cnn",
    *,
    lower: str | None = None,
    upper: str | None = None,
    pdf: str | None = None,
    grid: ArrayLike | None = None,
    brightness: str | None = None,
    edges: ArrayLike = REDSHIFT_EDGES,
    brightness_edges: ArrayLike | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a column of predicted redshifts.

    Parameters
    ----------
    table : Table
        One row per galaxy, as `gaia_redshift.predict_table` returns it with true redshifts kept.
    truth, prediction : str
        Columns of true and of predicted redshifts; masked or NaN where there is none.
    lower, upper : str, optional
        Columns of the 68 % interval; by default ``<prediction>_lower`` and ``_upper`` where the
        table has both.
    pdf : str, optional
        Column of redshift distributions, shape (n, m); by default ``<prediction>_pdf`` where
        there is one.
    grid : array-like, shape (m,) or (m + 1,), optional
        Where the densities are given, as for
        `gaia_redshift.metrics.distributions.compute_pit`; by default the column's
        ``meta["redshift_grid"]`` or the table's.
    brightness : str, optional
        Column to bin by; by default the first of `BRIGHTNESS_COLUMNS` that is there.
    edges : array-like
        Edges of the redshift bins.
    brightness_edges : array-like, optional
        Edges of the brightness bins; by default five bins of equal numbers.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If a column is missing or of the wrong kind, or no galaxy has both redshifts.
    """
    true, predicted = take_redshifts(table, truth), take_redshifts(table, prediction)
    metrics = compute_metrics(predicted, true, errors=True, seed=seed)
    if not metrics["n"]:
        raise InputError(
            f"no row has both a true redshift ({truth}) and a predicted one ({prediction})"
        )
    tables = {
        "by_true": bin_metrics(predicted, true, true, edges, seed=seed),
        "by_predicted": bin_metrics(predicted, true, predicted, edges, seed=seed),
    }
    bins_of: dict[str, tuple[Float, Any]] = {"predicted": (predicted, edges)}
    chosen = _choose_brightness(table, brightness)
    if chosen is not None:
        values = take_column(table, chosen)
        limits = _choose_edges(values[np.isfinite(true)], brightness_edges)
        if limits is not None:
            tables["by_brightness"] = bin_metrics(predicted, true, values, limits, seed=seed)
            bins_of["brightness"] = (values, limits)
    from gaia_redshift.simulate.observation import are_simulated

    if prediction.startswith("redshift_cnn") and "flags_cnn" in table.colnames:
        tables["by_flag"] = _tabulate_flags(_take_flags(table["flags_cnn"]), predicted, true)

    density, nodes = _find_pdf(table, pdf or f"{prediction}_pdf", grid, asked=pdf is not None)
    intervals = _find_intervals(table, prediction, lower, upper)
    pit = crps = None
    if density is not None:
        for nominal in (_INTERVAL, _WIDE_INTERVAL):
            ends = find_quantiles(density, nodes, [0.5 - nominal / 2, 0.5 + nominal / 2])
            intervals.setdefault(nominal, (ends[:, 0], ends[:, 1]))
        with_truth = np.isfinite(true)
        pit = summarise_pit(compute_pit(true, density, nodes)[with_truth])
        crps = summarise_crps(compute_crps(true, density, nodes)[with_truth])
        tables["pit"] = _tabulate_pit(pit)
    if intervals:
        tables["coverage"] = Table(
            rows=[compute_coverage(true, low, high, nom) for nom, (low, high) in intervals.items()]
        )
        for name, (values, limits) in bins_of.items():
            tables[f"coverage_by_{name}"] = bin_coverage(true, intervals, values, limits)
    return Evaluation(
        prediction=prediction,
        truth=truth,
        simulated="source_id" in table.colnames and are_simulated(table["source_id"]),
        metrics={"n_rows": len(table), **metrics},
        tables=tables,
        z_true=true,
        z_pred=predicted,
        pit=pit,
        crps=crps,
        brightness=chosen if "by_brightness" in tables else None,
        meta=_describe(table.meta),
    )


def take_column(table: Table, name: str) -> Float:
    """Return a column as floats, NaN where masked.

    Raises `InputError` if there is no such column, or it does not hold a number for each row.
    """
    if name not in table.colnames:
        raise MissingColumnError(
            f"no column '{name}'; there are: {', '.join(table.colnames[:40])}", name
        )
    column = table[name]
    if column.dtype.kind not in "fiub" or column.ndim != 1:
        raise InputError(f"column '{name}' does not hold one number a row")
    return to_floats(column)


def take_redshifts(table: Table, name: str) -> Float:
    """Return a column as `take_column` does; `InputError` too for numbers that are no redshifts.

    One that is too large would make all sums useless.
    """
    values = take_column(table, name)
    with np.errstate(invalid="ignore"):
        absurd = np.flatnonzero(np.abs(values) > LARGEST)
    if len(absurd):
        raise InputError(
            f"column '{name}' holds {values[absurd[0]]:g} in row {absurd[0] + 1}, which is no"
            f" redshift ({len(absurd):,} such rows): mask them"
        )
    return values


def find_training_seed(source_id: NDArray[np.int64], manifest: Mapping[str, Any]) -> int | None:
    """Return the seed of simulated galaxies that a model was trained on too, if there is one.

    ``source_id`` (n,) are the galaxies', ``manifest`` the model's.
    """
    from gaia_redshift.simulate.observation import find_seeds

    data = manifest.get("training", {}).get("data", {})
    if data.get("kind") != "simulated" or data.get("seed") is None:
        return None
    seed = int(data["seed"])
    return seed if seed % 10_000 in find_seeds(source_id) else None


def table_to_dict(table: Table) -> dict[str, Any]:
    """Return a table as lists of plain values by column, with its counts of rows left out."""
    columns = {name: to_plain(table[name].tolist()) for name in table.colnames}
    return {**{key: to_plain(value) for key, value in table.meta.items()}, "columns": columns}


def to_plain(value: Any) -> Any:
    """Return what `json` can write, with None for NaN."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _choose_brightness(table: Table, name: str | None) -> str | None:
    if name is not None:
        take_column(table, name)
        return name
    return next((name for name in BRIGHTNESS_COLUMNS if name in table.colnames), None)


def _choose_edges(values: Float, edges: ArrayLike | None) -> Float | None:
    if edges is not None:
        return to_floats(edges)
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    limits = np.unique(np.quantile(known, np.linspace(0, 1, BRIGHTNESS_BINS + 1)))
    return limits if len(limits) > 1 else None


def _take_flags(column: Any) -> NDArray[np.int64]:
    """Return bits, none where masked, also from floats (as some programs write integers)."""
    values = np.ma.asarray(column)
    if values.dtype.kind == "f":
        values = np.ma.masked_invalid(values)
        if (values.filled(0) % 1 != 0).any():
            raise InputError("column 'flags_cnn' does not hold whole numbers")
    elif values.dtype.kind not in "iu":
        raise InputError("column 'flags_cnn' does not hold whole numbers")
    return np.ma.filled(values, 0).astype(np.int64)


def _tabulate_flags(flags: NDArray[Any], predicted: Float, true: Float) -> Table:
    rows = []
    groups = [("(none)", flags == 0)]
    groups += [(str(flag.name).lower(), (flags & int(flag)) != 0) for flag in QualityFlag]
    for name, chosen in groups:
        if chosen.any() or name == "(none)":
            found = compute_metrics(predicted[chosen], true[chosen], errors=True)
            rows.append({"flag": name, "n_rows": int(chosen.sum())} | found)
    return Table(rows=rows)


def _find_pdf(
    table: Table, name: str, grid: ArrayLike | None, *, asked: bool
) -> tuple[Float | None, Any]:
    if name not in table.colnames:
        if asked:
            raise MissingColumnError(f"no column '{name}' of redshift distributions", name)
        return None, None
    column = table[name]
    if grid is None:
        grid = (column.info.meta or {}).get("redshift_grid", table.meta.get("redshift_grid"))
    if grid is None:
        raise InputError(
            f"column '{name}' holds redshift distributions, but nothing says on which grid:"
            " give it, or put it into the table's meta as redshift_grid"
        )
    return to_floats(column), to_floats(grid)


def _find_intervals(
    table: Table, prediction: str, lower: str | None, upper: str | None
) -> dict[float, tuple[Float, Float]]:
    if (lower is None) != (upper is None):
        raise InputError("give both ends of the intervals, lower and upper, or none")
    names = (lower or f"{prediction}_lower", upper or f"{prediction}_upper")
    if lower is None and not set(names) <= set(table.colnames):
        return {}
    return {_INTERVAL: (take_column(table, names[0]), take_column(table, names[1]))}


def _tabulate_pit(pit: dict[str, Any]) -> Table:
    edges = pit["edges"]
    table = Table({"low": edges[:-1], "high": edges[1:], "density": pit["density"]})
    table.meta["density_error"] = pit["density_error"]
    return table


def _describe(meta: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: meta[name] for name in _PROVENANCE if name in meta}
    return {"gaia_redshift_version": __version__, **kept}
