"""Bit flags that say, row by row, what was wrong or unusual about a source.

Defined once here; `FluxVectors.quality` and the output column ``flags_cnn`` hold the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntFlag
from typing import Any, Self

import numpy as np

__all__ = [
    "FATAL",
    "NOT_FETCHED",
    "MatchFlag",
    "QualityFlag",
    "count_flags",
    "decode_flags",
    "decode_match_flags",
    "describe_flags",
    "describe_match_flags",
    "tell_flags",
]


class _Flag(IntFlag):
    """Bits, each with what it says of a row in words: ``meaning``."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Self:
        """Return a member; combinations of several have no words of their own."""
        self = int.__new__(cls, value)
        self._value_, self.meaning = value, meaning
        return self


class QualityFlag(_Flag):
    """Bits of ``flags_cnn``. Bits in `FATAL` mean that the row's redshift is masked."""

    MISSING_BP = 1 << 0, "no BP spectrum"
    MISSING_RP = 1 << 1, "no RP spectrum"
    BAD_COEFFICIENT_COUNT = (
        1 << 2,
        "a band's number of coefficients differs from what the row or its basis set says",
    )
    UNKNOWN_BASIS = 1 << 3, "coefficients on a set of bases that this version does not know"
    NON_FINITE_FLUX = 1 << 4, "a coefficient or flux is NaN or infinite"
    NON_POSITIVE_FLUX = 1 << 5, "the total flux of the BP and RP samples is zero or negative"
    NO_FLUX_ERROR = 1 << 6, "no coefficient errors given: flux errors are missing"
    DIAGONAL_FLUX_ERROR = (
        1 << 7,
        "no correlations given: flux errors ignore them (28 to 61 % off on real sources)",
    )
    BAD_FLUX_ERROR = (
        1 << 8,
        "coefficient errors or correlations are unusable (NaN, negative, beyond 1): no flux errors",
    )
    DUPLICATE_SOURCE_ID = 1 << 9, "this source_id occurs more than once in the input"
    REDSHIFT_OUT_OF_RANGE = (
        1 << 10,
        "predicted redshift outside the range that the model was trained on",
    )
    FLUX_OUT_OF_RANGE = 1 << 11, "brighter or fainter than anything that the model was trained on"
    NO_PUBLIC_XP = 1 << 12, "the archive has this source, but no public XP spectrum of it"
    UNKNOWN_SOURCE_ID = 1 << 13, "the archive's release has no source of this source_id"
    FETCH_FAILED = (
        1 << 14,
        "the archive did not deliver the spectrum, or it is not in the cache (offline): ask again",
    )
    NO_GAIA_SOURCE = 1 << 15, "no Gaia source near this position"
    REDSHIFT_AT_EDGE = (
        1 << 16,
        "the distribution is cut off by an end of the model's redshifts: it may lie beyond",
    )
    WIDE_DISTRIBUTION = (
        1 << 17,
        "the 68 % interval is wider than 0.1 (1 + redshift): the redshift says little",
    )
    MULTIPLE_PEAKS = (
        1 << 18,
        "the redshift distribution has peaks far apart: the median may lie between them",
    )
    LOW_SIGNAL_TO_NOISE = 1 << 19, "the flux errors exceed a third of the mean flux"
    UNLIKE_TRAINING = (
        1 << 20,
        "unlike the galaxies of the training set: perhaps a star, a quasar or a blend",
    )
    UNLIKELY_GALAXY = (
        1 << 21,
        "the spectrum looks more like a star, a quasar or a blend (probability_galaxy)",
    )
    PRIOR_CONFLICT = (
        1 << 22,
        "spectrum and brightness contradict each other: compare with prior='flat'",
    )
    DOUBTFUL_UNIT = (
        1 << 23,
        "the flux does not fit its own noise or the photometry: e-/s per sample are needed",
    )


class MatchFlag(_Flag):
    """Bits of ``match_flag_sdss`` and its like; 0 is clean."""

    AMBIGUOUS = (
        1 << 0,
        "another object near the source, or another source near the object, within the radius"
        " or within twice the distance of the two; the nearest is given",
    )
    TAKEN = 1 << 1, "the nearest object is nearer to another source: no match"
    NO_SPECTRUM = 1 << 2, "the nearest object has no spectroscopic redshift"
    REJECTED = 1 << 3, "the spectrum does not pass the cuts in zWarning or class: no redshift"
    CONFLICT = 1 << 4, "good spectra of this object disagree by more than 0.005 (1 + z)"
    NO_POSITION = 1 << 5, "the row has no valid position"


NOT_FETCHED = (
    QualityFlag.NO_PUBLIC_XP
    | QualityFlag.UNKNOWN_SOURCE_ID
    | QualityFlag.FETCH_FAILED
    | QualityFlag.NO_GAIA_SOURCE
)
"""Bits of rows for which the archive gave no spectrum."""

FATAL = (
    QualityFlag.MISSING_BP
    | QualityFlag.MISSING_RP
    | QualityFlag.BAD_COEFFICIENT_COUNT
    | QualityFlag.UNKNOWN_BASIS
    | QualityFlag.NON_FINITE_FLUX
    | QualityFlag.NON_POSITIVE_FLUX
    | NOT_FETCHED
)
"""Bits with which no redshift can be given: the row is masked."""


def decode_flags(flags: Any, kind: type[IntFlag] = QualityFlag) -> Any:
    """Turn flag values into words.

    Parameters
    ----------
    flags : int or array-like of int, shape (n,)
        Values of ``flags_cnn``. Masked entries count as 0.
    kind : type
        What the bits mean: `QualityFlag`, or `gaia_redshift.crossmatch.MatchFlag` for
        ``match_flag_sdss`` and its like.

    Returns
    -------
    list of str, or list of such lists
        Lower-case flag names, lowest bit first; one list for a scalar, n lists for an array.

    Examples
    --------
    >>> decode_flags(5)
    ['missing_bp', 'bad_coefficient_count']
    >>> decode_flags([0, 128])
    [[], ['diagonal_flux_error']]
    """
    values = np.ma.filled(np.ma.asarray(flags), 0)
    if values.ndim == 0:
        return _decode_one(int(values), kind)
    cache = {int(v): _decode_one(int(v), kind) for v in np.unique(values)}
    return [list(cache[int(v)]) for v in values]


def _decode_one(value: int, kind: type[IntFlag]) -> list[str]:
    names = [str(flag.name).lower() for flag in kind if value & flag]
    unknown = value & ~sum(int(flag) for flag in kind)
    if unknown:
        names.append(f"unknown_bits_{unknown}")
    return names


def describe_flags(flags: Iterable[_Flag] = QualityFlag) -> list[tuple[int, str, str]]:
    """Rows of (bit value, lower-case name, meaning), for tables in docs and on the terminal."""
    return [(int(f), str(f.name).lower(), f.meaning) for f in flags]


def count_flags(flags: Any) -> dict[str, int]:
    """Return how many rows carry each flag, by its name; flags that none carries are left out."""
    bits = np.ma.filled(np.ma.asarray(flags), 0)
    counts = {str(f.name).lower(): int(((bits & f) != 0).sum()) for f in QualityFlag}
    return {name: n for name, n in counts.items() if n}


def tell_flags(counts: Mapping[str, int]) -> str:
    """Return such counts in words, lowest bit first."""
    names = [str(flag.name).lower() for flag in QualityFlag]
    return ", ".join(f"{name} {counts[name]:,}" for name in names if counts.get(name)) or "none"


def decode_match_flags(flags: Any) -> Any:
    """Turn values of ``match_flag_sdss`` and its like into words, as `decode_flags` does.

    Parameters
    ----------
    flags : int or array-like of int, shape (n,)

    Returns
    -------
    list of str, or list of such lists
        Lower-case names; one list for a scalar, n lists for an array.

    Examples
    --------
    >>> from gaia_redshift.crossmatch import decode_match_flags
    >>> decode_match_flags(9)
    ['ambiguous', 'rejected']
    """
    return decode_flags(flags, MatchFlag)


def describe_match_flags() -> list[tuple[int, str, str]]:
    """Return value, name and meaning of each bit."""
    return describe_flags(MatchFlag)
