"""The cuts of a training set, by name, and how many galaxies each removes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import InputError, MissingColumnError
from gaia_redshift.metrics import points

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["CUTS", "CutCounts", "TrainingCuts", "apply_cuts", "to_floats"]

PHOTOMETRY = ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")
"""Gaia's magnitudes, which the cut ``photometry`` looks at where the table has them."""

CUTS = {
    "repeated": "first row of each source_id",
    "matched": "has a counterpart in the catalogue of redshifts",
    "good_redshift": "has a redshift that passes the cuts in class and zWarning",
    "clean_match": "the counterpart is neither ambiguous nor do its spectra disagree",
    "redshift_range": "the redshift lies in the range",
    "redshift_error": "the redshift's error is small enough",
    "photometry": "has Gaia's G, BP and RP magnitudes",
    "magnitude": "the G magnitude lies in the range",
    "required": "the required columns hold positive numbers",
    "spectrum": "has an XP spectrum",
    "usable_spectrum": "the spectrum gives 186 finite fluxes",
}
"""Every cut in the order in which they are made, and what passes it."""


@dataclass(frozen=True)
class TrainingCuts:
    """Which galaxies enter a training set; the defaults follow Kiraleos (2023).

    That set was of SDSS galaxies seen by Gaia with 0 <= z <= 0.6, without those of bad or missing
    photometry, size or redshift.

    Parameters
    ----------
    redshift_range : (float, float)
        Both ends belong to it.
    zwarning : int or None
        Bits of zWarning that are put up with: 0 asks for none, None makes no cut.
    classes : tuple of str, or None
        Classes of spectra wanted; None makes no cut.
    clean_matches : bool
        Leave out matches that are ambiguous or whose spectra disagree.
    redshift_error : float, optional
        Largest error of a redshift, divided by 1 + z.
    photometry : bool
        Leave out sources without G, BP or RP magnitude, where the table of sources has these.
    magnitude : (bright, faint), optional
        Range of the G magnitude.
    required : tuple of str
        Columns of the table of sources that must hold positive finite numbers, such as SDSS's
        size (``petroRad_r``).

    Raises
    ------
    InputError
        If a value makes no sense.

    Notes
    -----
    ``zwarning``, ``classes`` and ``clean_matches`` are about cross-matches; redshifts that come
    from a column of one's own are taken as they are.
    """

    redshift_range: tuple[float, float] = (0.0, 0.6)
    zwarning: int | None = 0
    classes: tuple[str, ...] | None = ("GALAXY",)
    clean_matches: bool = True
    redshift_error: float | None = None
    photometry: bool = True
    magnitude: tuple[float, float] | None = None
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("redshift_range", "magnitude"):
            value = getattr(self, name)
            if value is None and name == "magnitude":
                continue
            try:
                low, high = (float(v) for v in value)
            except (TypeError, ValueError):
                raise InputError(f"{name} must be two numbers, not {value!r}") from None
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"{name} must be two rising numbers, not {low:g} and {high:g}")
            object.__setattr__(self, name, (low, high))
        if self.redshift_error is not None and not self.redshift_error > 0:
            raise InputError(f"redshift_error must be positive, not {self.redshift_error!r}")
        for name in ("classes", "required"):
            value = getattr(self, name)
            if value is not None:
                words = (value,) if isinstance(value, str) else tuple(map(str, value))
                object.__setattr__(self, name, words)

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]


class CutCounts:
    """How many galaxies each cut removed; counts of several pieces add up."""

    def __init__(self, removed: Mapping[str, int] | None = None, n_given: int = 0) -> None:
        self.removed = Counter(removed)
        self.n_given = n_given

    def add(self, name: str, passed: NDArray[np.bool_]) -> None:
        """Note what a cut removes."""
        self.removed[name] += int((~passed).sum())

    def merge(self, other: CutCounts) -> None:
        """Add the counts of another piece."""
        self.n_given += other.n_given
        self.removed.update(other.removed)

    def __str__(self) -> str:
        removed = (f"{name} removes {self.removed[name]:,}" for name in CUTS if self.removed[name])
        return ", ".join([f"{self.n_given:,} given", *removed])

    def to_list(self) -> list[dict[str, Any]]:
        """Return a line for each cut, in order: what passes it, galaxies removed and left."""
        left = self.n_given
        lines: list[dict[str, Any]] = [
            {"cut": "given", "meaning": "galaxies given", "removed": 0, "left": left}
        ]
        for name, meaning in CUTS.items():
            if name in self.removed:
                left -= self.removed[name]
                lines.append(
                    {"cut": name, "meaning": meaning, "removed": self.removed[name], "left": left}
                )
        return lines


def apply_cuts(
    table: Table, cuts: TrainingCuts, *, survey: str | None = None
) -> tuple[NDArray[np.bool_], CutCounts]:
    """Find the rows (n,) that pass the cuts about sources and redshifts, and count each cut.

    ``survey`` is the ending of the columns of a cross-match, None if there was none. A cut that is
    not made, or for which there are no columns, has no entry.
    """
    counts = CutCounts(n_given=len(table))
    passed = np.ones(len(table), dtype=bool)

    def cut(name: str, good: NDArray[np.bool_]) -> None:
        counts.add(name, good[passed])
        passed[passed] = good[passed]

    redshift = to_floats(table["redshift"])
    if survey is not None:
        from gaia_redshift.flags import MatchFlag

        flags = np.asarray(table[f"match_flag_{survey}"])
        lone = ~np.ma.getmaskarray(np.ma.asarray(table[f"separation_{survey}"]))
        cut("matched", lone & ((flags & int(MatchFlag.NO_SPECTRUM)) == 0))
    cut("good_redshift", np.isfinite(redshift))
    if survey is not None and cuts.clean_matches:
        doubtful = int(MatchFlag.AMBIGUOUS | MatchFlag.CONFLICT | MatchFlag.TAKEN)
        cut("clean_match", (flags & doubtful) == 0)
    low, high = cuts.redshift_range
    cut("redshift_range", (redshift >= low) & (redshift <= high))
    if cuts.redshift_error is not None:
        error = _column(table, "redshift_error")
        cut("redshift_error", error / (1 + redshift) <= cuts.redshift_error)
    present = [name for name in PHOTOMETRY if name in table.colnames]
    if cuts.photometry and present:
        values = [to_floats(table[name]) for name in present]
        cut("photometry", np.all(np.isfinite(values), axis=0))
    if cuts.magnitude is not None:
        bright, faint = cuts.magnitude
        magnitude = _column(table, PHOTOMETRY[0])
        cut("magnitude", (magnitude >= bright) & (magnitude <= faint))
    if cuts.required:
        needed = [_column(table, name) for name in cuts.required]
        cut("required", np.all([np.isfinite(v) & (v > 0) for v in needed], axis=0))
    return passed, counts


def to_floats(column: Any) -> NDArray[np.float64]:
    """Return a column as float64, NaN where masked."""
    return points.to_floats(column, f"the column '{column.name}' does not hold numbers")


def _column(table: Table, name: str) -> NDArray[np.float64]:
    if name not in table.colnames:
        raise MissingColumnError(
            f"no column '{name}' for the cut; there are: {', '.join(table.colnames[:20])}", name
        )
    return to_floats(table[name])
