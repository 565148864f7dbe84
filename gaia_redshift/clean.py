"""Which rows to use: `select_clean`, and the same choice as an expression for TOPCAT or ADQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError
from gaia_redshift.flags import FATAL, QualityFlag, count_flags
from gaia_redshift.metrics.points import to_floats

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "LEVELS",
    "CleanLevel",
    "explain_table",
    "explain_unusable",
    "find_clean",
    "format_clean",
    "select_clean",
]

PROBABILITY = "probability_galaxy"
"""Column that some models add: how probable it is that the source is a galaxy."""


@dataclass(frozen=True)
class CleanLevel:
    """What a row must be to belong to a clean sample.

    Parameters
    ----------
    name, meaning : str
    drop : QualityFlag
        Rows with one of these bits are left out, as are rows without a redshift.
    half_width : float or None
        Largest half of the 68 % interval, divided by 1 + redshift; rows without interval pass.
    probability : float
        Least ``probability_galaxy``, where the table has that column.
    """

    name: str
    meaning: str
    drop: QualityFlag
    half_width: float | None = None
    probability: float = 0.5


_NOT_GALAXIES = (
    QualityFlag.UNLIKE_TRAINING
    | QualityFlag.UNLIKELY_GALAXY
    | QualityFlag.FLUX_OUT_OF_RANGE
    | QualityFlag.REDSHIFT_OUT_OF_RANGE
    | QualityFlag.DOUBTFUL_UNIT
)
_VAGUE = (
    QualityFlag.WIDE_DISTRIBUTION
    | QualityFlag.REDSHIFT_AT_EDGE
    | QualityFlag.LOW_SIGNAL_TO_NOISE
    | QualityFlag.PRIOR_CONFLICT
)

LEVELS = {
    level.name: level
    for level in (
        CleanLevel(
            "usable",
            "a redshift, and a spectrum like those of galaxies; may be wide",
            _NOT_GALAXIES,
        ),
        CleanLevel(
            "clean",
            "usable, not noisy, its distribution neither wide nor cut off by an end",
            _NOT_GALAXIES | _VAGUE,
        ),
        CleanLevel(
            "precise",
            "clean, and half of the 68 % interval below 0.02 (1 + z)",
            _NOT_GALAXIES | _VAGUE,
            half_width=0.02,
            probability=0.9,
        ),
    )
}
"""Levels of clean samples by name, each part of the one before."""


@preserve_settings()
def select_clean(table: Table, level: str = "clean", *, completeness: float | None = None) -> Table:
    """Return the rows of a table of predictions that a clean sample holds.

    Parameters
    ----------
    table : Table
        As `gaia_redshift.predict_table` returns it, or read from a file.
    level : {"usable", "clean", "precise"}
        See `LEVELS`; the documentation has the completeness, contamination and accuracy of each.
    completeness : float, optional
        Of the rows of this level, keep this part (0 to 1) with the narrowest intervals.

    Returns
    -------
    Table
        A copy of these rows; ``meta["clean_sample"]`` says how they were chosen, as an expression.

    Raises
    ------
    InputError
        If the level is unknown, or the table lacks the columns.

    Examples
    --------
    >>> from gaia_redshift import predict_table, select_clean
    >>> table = predict_table("catalogs/demo_galaxies.parquet")  # doctest: +SKIP
    >>> len(select_clean(table)), len(select_clean(table, completeness=0.5))  # doctest: +SKIP
    (496, 248)
    """
    chosen = _narrow(table, find_level(level), completeness)
    rows = table[find_clean(table, chosen)]
    rows.meta["clean_sample"] = format_clean(chosen, table.colnames)
    return rows


def find_level(level: str | CleanLevel) -> CleanLevel:
    """Return the level of this name; `InputError` if there is none."""
    if isinstance(level, CleanLevel):
        return level
    if level not in LEVELS:
        raise InputError(f"no level '{level}' of clean samples; there are: {', '.join(LEVELS)}")
    return LEVELS[level]


def find_clean(table: Any, level: str | CleanLevel = "clean") -> NDArray[np.bool_]:
    """Tell which rows belong to the level, shape (n,); ``table`` may be a mapping of columns.

    Raises
    ------
    InputError
        If the level is unknown or a column is missing.
    """
    chosen = find_level(level)
    names = list(getattr(table, "colnames", table))
    for name in ("redshift_cnn", "flags_cnn"):
        if name not in names:
            raise InputError(f"the table has no column '{name}': is it one of predictions?")
    redshift = to_floats(table["redshift_cnn"])
    flags = np.asarray(np.ma.filled(np.ma.asarray(table["flags_cnn"]), 0)).astype(np.int64)
    good = np.isfinite(redshift) & ((flags & int(chosen.drop | FATAL)) == 0)
    if chosen.half_width is not None and "redshift_cnn_lower" in names:
        with np.errstate(invalid="ignore"):
            good &= ~(_measure_width(table, redshift) > chosen.half_width)
    if PROBABILITY in names:
        with np.errstate(invalid="ignore"):
            good &= ~(to_floats(table[PROBABILITY]) < chosen.probability)
    return np.asarray(good)


def _narrow(table: Any, level: CleanLevel, completeness: float | None) -> CleanLevel:
    """Return the level with the width of intervals that this part of its rows does not exceed."""
    if completeness is None:
        return level
    if not 0 < completeness <= 1:
        raise InputError(f"completeness must be above 0 and at most 1, not {completeness}")
    if "redshift_cnn_lower" not in table.colnames:
        raise InputError(
            "the table has no intervals (redshift_cnn_lower) to choose the narrowest by: predict"
            " with a model that gives distributions"
        )
    widths = _measure_width(table, to_floats(table["redshift_cnn"]))[find_clean(table, level)]
    widths = np.sort(widths[np.isfinite(widths)])
    if not len(widths):
        return level
    last = widths[max(round(completeness * len(widths)) - 1, 0)]
    # Rounded upwards, so that the printed expression chooses the same rows.
    limit = np.ceil(last * 1e6) / 1e6
    return CleanLevel(level.name, level.meaning, level.drop, float(limit), level.probability)


def _measure_width(table: Any, redshift: NDArray[np.float64]) -> NDArray[np.float64]:
    lower, upper = to_floats(table["redshift_cnn_lower"]), to_floats(table["redshift_cnn_upper"])
    return np.asarray((upper - lower) / (2 * (1 + redshift)))


def format_clean(
    level: str | CleanLevel = "clean", columns: Any = None, *, language: str = "topcat"
) -> str:
    """Return the choice as an expression.

    Parameters
    ----------
    level : str or CleanLevel
    columns : iterable of str, optional
        The table's columns: parts about columns that it lacks are left out. By default those of
        the default model.
    language : {"topcat", "adql"}
        For TOPCAT and STILTS, or the WHERE of a query (ADQL 2.0 has no operators on bits).

    Raises
    ------
    InputError
        If level or language is unknown.
    """
    chosen = find_level(level)
    names = None if columns is None else set(columns)
    has_interval = names is None or "redshift_cnn_lower" in names
    width = "(redshift_cnn_upper - redshift_cnn_lower) / (2 * (1 + redshift_cnn))"
    if language == "topcat":
        parts = ["!NULL_redshift_cnn", f"(flags_cnn & {int(chosen.drop | FATAL)}) == 0"]
    elif language == "adql":
        # Rows of FATAL bits have no redshift; integers divide without remainder.
        bits = [int(flag) for flag in QualityFlag if flag & chosen.drop]
        parts = ["redshift_cnn IS NOT NULL", *(f"MOD(flags_cnn / {b}, 2) = 0" for b in bits)]
    else:
        raise InputError(f"no expressions for '{language}': topcat or adql")
    if chosen.half_width is not None and has_interval:
        parts.append(f"{width} <= {chosen.half_width:.6g}")
    if names is None or PROBABILITY in names:
        parts.append(f"{PROBABILITY} >= {chosen.probability:g}")
    return (" && " if language == "topcat" else " AND ").join(parts)


def explain_table(table: Any) -> str:
    """Return how many rows of a table of predictions are usable, in words; see below."""
    flags = np.asarray(np.ma.filled(np.ma.asarray(table["flags_cnn"]), 0))
    counts = count_flags(flags)
    usable = find_clean(table, "usable")
    names = list(getattr(table, "colnames", table))
    if PROBABILITY in names:
        with np.errstate(invalid="ignore"):
            unlikely = ((flags & QualityFlag.UNLIKELY_GALAXY) != 0) | (
                to_floats(table[PROBABILITY]) < 0.5
            )
        counts["unlikely_galaxy"] = int(unlikely.sum())
    return explain_unusable(len(flags), int(usable.sum()), counts)


def explain_unusable(n: int, n_usable: int, flags: dict[str, int]) -> str:
    """Return how many of n rows are usable, and what most of the others are, in words.

    ``flags``: number of rows with each flag, by its name.
    """
    words = {
        "unlike_training": "unlike the training galaxies",
        "flux_out_of_range": "brighter or fainter than the training galaxies",
        "redshift_out_of_range": "beyond the model's redshifts",
        "fetch_failed": "not fetched",
        "no_public_xp": "without a public XP spectrum",
        "missing_bp": "without BP",
        "missing_rp": "without RP",
        "unlikely_galaxy": "probably no galaxies",
        "doubtful_unit": "in a doubtful unit",
    }
    text = f"{n_usable:,} of {n:,} usable"
    lost = n - n_usable
    if not lost:
        return text
    reasons = [
        (count, words.get(name, name.replace("_", " ")))
        for name, count in flags.items()
        if count and (name in words or QualityFlag[name.upper()] & FATAL)
    ]
    reasons.sort(key=lambda one: -one[0])
    if reasons and reasons[0][0] >= lost:
        return f"{text}: {'all' if not n_usable else 'the others'} {reasons[0][1]}"
    shown = ", ".join(f"{count:,} {reason}" for count, reason in reasons[:3])
    return f"{text}: {shown}" if shown else text
