"""Bits of the columns ``match_flag_*``: what is to be known about the match of a row."""

from __future__ import annotations

from enum import IntFlag
from typing import Any

from gaia_redshift.flags import decode_flags

__all__ = ["MatchFlag", "decode_match_flags", "describe_match_flags"]


class MatchFlag(IntFlag):
    """Bits of ``match_flag_sdss`` and its like; 0 is clean."""

    AMBIGUOUS = 1 << 0
    TAKEN = 1 << 1
    NO_SPECTRUM = 1 << 2
    REJECTED = 1 << 3
    CONFLICT = 1 << 4
    NO_POSITION = 1 << 5


_DESCRIPTIONS: dict[MatchFlag, str] = {
    MatchFlag.AMBIGUOUS: (
        "another object near the source, or another source near the object, within the radius or"
        " within twice the distance of the two; the nearest is given"
    ),
    MatchFlag.TAKEN: "the nearest object is nearer to another source: no match",
    MatchFlag.NO_SPECTRUM: "the nearest object has no spectroscopic redshift",
    MatchFlag.REJECTED: "the spectrum does not pass the cuts in zWarning or class: no redshift",
    MatchFlag.CONFLICT: "good spectra of this object disagree by more than 0.005 (1 + z)",
    MatchFlag.NO_POSITION: "the row has no valid position",
}


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
    return [(int(flag), str(flag.name).lower(), _DESCRIPTIONS[flag]) for flag in MatchFlag]
