"""The output table: its columns, units, descriptions, UCDs and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gaia_redshift import __version__
from gaia_redshift._files import escape_controls
from gaia_redshift._quiet import import_tables
from gaia_redshift.errors import InputError
from gaia_redshift.flags import describe_flags
from gaia_redshift.grid import SamplingGrid
from gaia_redshift.tables.columns import Column, make_column, stack_tables

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "COLUMNS",
    "PredictedRows",
    "build_table",
    "describe_provenance",
    "join_meta",
    "select_columns",
    "stack_rows",
]

_WORDS = {
    "source_id": ("meta.id;meta.main", "Gaia source identifier"),
    "redshift_cnn": (
        "src.redshift",
        "Redshift predicted by a convolutional neural network from BP/RP spectra",
    ),
    "redshift_cnn_lower": ("src.redshift;stat.min", "16th percentile of the predicted redshift"),
    "redshift_cnn_upper": ("src.redshift;stat.max", "84th percentile of the predicted redshift"),
    "redshift_cnn_std": (
        "stat.stdev;src.redshift",
        "Standard deviation of the predicted redshift distribution",
    ),
    "redshift_cnn_shape": (
        "src.redshift",
        "Median redshift from the spectrum's shape alone, with a flat prior",
    ),
    "redshift_cnn_pdf": (
        "stat.probability;src.redshift",
        "Probability density of the redshift, one number for each bin",
    ),
    "redshift_cnn_peak": (
        "src.redshift",
        "Most probable peak of the predicted redshift distribution",
    ),
    "redshift_cnn_peak_odds": (
        "stat.probability;src.redshift",
        "Probability of redshift_cnn_peak, of all between the valleys beside it",
    ),
    "redshift_cnn_peak2": (
        "src.redshift",
        "Second most probable peak, masked where there is one alone",
    ),
    "redshift_cnn_peak2_odds": (
        "stat.probability;src.redshift",
        "Probability of redshift_cnn_peak2",
    ),
    "probability_galaxy": (
        "stat.probability;src.class",
        "Probability that the spectrum is a galaxy's, not a star's, a quasar's or a blend's, where"
        " one in four is none",
    ),
    "flags_cnn": (
        "meta.code.qual",
        "Quality flags of the redshift (bits), 0 is clean: "
        + ", ".join(f"{value} {word}" for value, word, _ in describe_flags()),
    ),
}
_TYPES = {"source_id": np.int64, "flags_cnn": np.int32}
COLUMNS = {
    name: Column(name, np.dtype(_TYPES.get(name, np.float32)), description=description, ucd=ucd)
    for name, (ucd, description) in _WORDS.items()
}
"""The columns that this package makes, by name; none of them has a unit."""
PEAK_COLUMNS = [name for name in COLUMNS if name.startswith("redshift_cnn_peak")]


@dataclass(frozen=True)
class PredictedRows:
    """Rows of the output as plain arrays, for which astropy's tables need not be imported.

    They are as for `build_table`, of the types of the output.
    """

    source_id: NDArray[np.int64]
    redshift: NDArray[np.floating]
    flags: NDArray[np.int32]
    lower: NDArray[np.floating] | None = None
    upper: NDArray[np.floating] | None = None
    std: NDArray[np.floating] | None = None
    shape: NDArray[np.floating] | None = None
    probability_galaxy: NDArray[np.floating] | None = None
    pdf: NDArray[np.floating] | None = None
    peaks: NDArray[np.floating] | None = None
    redshift_grid: NDArray[np.floating] | None = None
    columns: Table | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source_id)

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return this package's own columns by name; redshifts are masked where there are none."""
        numbers = {
            "redshift_cnn": self.redshift,
            "redshift_cnn_lower": self.lower,
            "redshift_cnn_upper": self.upper,
            "redshift_cnn_std": self.std,
            "redshift_cnn_shape": self.shape,
            "redshift_cnn_pdf": self.pdf,
        }
        if self.peaks is not None:
            numbers |= dict(zip(PEAK_COLUMNS, self.peaks.T, strict=True))
        numbers["probability_galaxy"] = self.probability_galaxy
        masked = {
            name: np.ma.MaskedArray(values, ~np.isfinite(values), fill_value=np.nan)
            for name, values in numbers.items()
            if values is not None
        }
        return {"source_id": self.source_id, **masked, "flags_cnn": self.flags}

    def to_table(self) -> Table:
        """Return the output table."""
        import_tables()
        from astropy.table import Table

        table = Table(masked=False)
        for name, values in self.to_columns().items():
            masked = isinstance(values, np.ma.MaskedArray)
            table[name] = make_column(replace(COLUMNS[name], unit="" if masked else None), values)
            if masked:
                table[name].info.format = ".4f"  # as shown; files hold every digit
        if self.pdf is not None and self.redshift_grid is not None:
            grid = [float(value) for value in self.redshift_grid]
            table["redshift_cnn_pdf"].info.meta["redshift_grid"] = grid
        if self.columns is not None:
            own = set(table.colnames)
            for name in self.columns.colnames:
                target = name
                while target.lower() in own or target in table.colnames:  # as FITS compares them
                    target += "_in"
                table[target] = self.columns[name]
        table.meta.update(self.meta)
        return table


def build_table(
    source_id: ArrayLike,
    redshift: ArrayLike,
    flags: ArrayLike,
    *,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    std: ArrayLike | None = None,
    shape: ArrayLike | None = None,
    probability_galaxy: ArrayLike | None = None,
    pdf: ArrayLike | None = None,
    peaks: ArrayLike | None = None,
    redshift_grid: ArrayLike | None = None,
    columns: Table | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Table:
    """Make the output table, one row per source.

    Parameters
    ----------
    source_id : array-like of int, shape (n,)
    redshift : array-like, shape (n,)
        NaN where there is none: such rows are masked.
    flags : array-like of int, shape (n,)
    lower, upper : array-like, shape (n,), optional
        16th and 84th percentile.
    std : array-like, shape (n,), optional
    shape : array-like, shape (n,), optional
        Medians under a flat prior.
    probability_galaxy : array-like, shape (n,), optional
    pdf : array-like, shape (n, m), optional
        Densities, NaN in rows without.
    peaks : array-like, shape (n, 4), optional
        The two most probable peaks, each followed by its odds.
    redshift_grid : array-like, shape (m + 1,), optional
        Edges of the densities' bins, kept in their column's ``meta``.
    columns : Table, n rows, optional
        Columns of the input to carry along; a name that the output has already gets ``_in``.
    meta : mapping, optional
        Provenance.

    Returns
    -------
    Table
        ``source_id`` (int64), ``redshift_cnn`` (float32, masked where there is none), the
        percentiles, standard deviations and densities where given, ``flags_cnn`` (int32), then the
        input's columns.
    """
    numbers = {"redshift": redshift, "lower": lower, "upper": upper, "std": std, "shape": shape}
    numbers |= {"probability_galaxy": probability_galaxy, "pdf": pdf, "peaks": peaks}
    given = {name: values for name, values in numbers.items() if values is not None}
    return PredictedRows(
        source_id=np.asarray(source_id, dtype=np.int64),
        flags=np.asarray(flags, dtype=np.int32),
        **{name: np.asarray(values, dtype=np.float32) for name, values in given.items()},
        redshift_grid=None if redshift_grid is None else np.asarray(redshift_grid),
        columns=columns,
        meta=dict(meta or {}),
    ).to_table()


def describe_provenance(
    *,
    model_name: str,
    model_version: str,
    model_sha256: str,
    trained_on: str,
    grid: SamplingGrid,
    release: str | None = None,
    inputs: list[str] | None = None,
    prior: str | None = None,
) -> dict[str, Any]:
    """Return what an output table should say about where it came from.

    ``prior`` is the name of the redshift distribution that was taken for the sky's. All is flat,
    with plain numbers, strings and lists of them: it survives every format of `write_table`.
    """
    return {
        "gaia_redshift_version": __version__,
        "model_name": model_name,
        "model_version": model_version,
        "model_sha256": model_sha256,
        "model_trained_on": trained_on,
        "data_release": release or "unknown",
        "grid_bp_nm": list(grid.bp),
        "grid_rp_nm": list(grid.rp),
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **({"redshift_prior": prior} if prior else {}),
        **({"inputs": [escape_controls(name) for name in inputs]} if inputs else {}),
    }


def select_columns(columns: Table | None, keep: str | Sequence[str] | None) -> Table | None:
    """Return the columns to keep (names, each once, or "all"); None if there are none."""
    have = [] if columns is None else columns.colnames
    if keep is None or (not have and keep == "all"):
        return None
    names = have if keep == "all" else list(keep)
    for name in names:
        if name not in have and name != "source_id":
            raise InputError(f"no column '{name}' to keep; there are: {', '.join(have) or 'none'}")
    names = [name for name in names if name != "source_id"]  # the output has it always
    return columns[names] if names and columns is not None else None


def stack_rows(parts: Sequence[PredictedRows]) -> PredictedRows:
    """Join rows that the same model predicted with the same options; kept columns may differ."""
    first = parts[0]
    if len(parts) == 1:
        return first
    others = ("redshift_grid", "columns", "meta")
    arrays = {
        name: np.concatenate([vars(part)[name] for part in parts])
        for name, values in vars(first).items()
        if values is not None and name not in others
    }
    return PredictedRows(
        **arrays,
        redshift_grid=first.redshift_grid,
        columns=_stack_columns(parts),
        meta=join_meta([part.meta for part in parts]),
    )


def _stack_columns(parts: Sequence[PredictedRows]) -> Table | None:
    if all(part.columns is None for part in parts):
        return None
    from astropy.table import Table

    # A part without columns has rows all the same, masked there: its ids say how many.
    columns = [part.columns or Table({"source_id": part.source_id}) for part in parts]
    stacked = stack_tables(columns)
    if "source_id" in stacked.colnames:
        del stacked["source_id"]
    return stacked


def join_meta(metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the first provenance, with the inputs and releases of all."""
    meta = dict(metas[0])
    inputs = dict.fromkeys(name for each in metas for name in each.get("inputs", []))
    if inputs:
        meta["inputs"] = list(inputs)
    releases = {name for each in metas for name in _list_releases(each)}
    return {**meta, "data_release": ", ".join(sorted(releases))}


def _list_releases(meta: Mapping[str, Any]) -> list[str]:
    return str(meta.get("data_release", "unknown")).split(", ")
