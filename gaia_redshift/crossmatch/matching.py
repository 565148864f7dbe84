"""Which catalogue object is which source: nearest mutual neighbours, and doubts about them.

Positions are compared as they are: galaxies have no proper motion, so the epochs of the catalogues
(Gaia DR3: 2016.0) do not matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import decode_flags
from gaia_redshift.readers.angles import find_placed

__all__ = [
    "REACH",
    "MatchFlag",
    "Matches",
    "SkyObjects",
    "decode_match_flags",
    "describe_match_flags",
    "find_pairs",
    "match_objects",
]

ARCSEC = 1.0 / 3600.0
REACH = 2.0
"""Objects up to this many times the radius are looked at, to tell what is ambiguous."""
SAME_OBJECT = 0.2
"""Arcsec: spectra as near as this are of one object (SDSS astrometry repeats to 0.1 arcsec)."""
SAME_NAME = 1.0
"""Arcsec: so far may spectra be apart that carry the same identifier."""
SAME_REDSHIFT = 0.005
"""Largest difference of redshifts of one object, over 1 + z (1,500 km/s)."""


@dataclass
class SkyObjects:
    """Rows (m,) of a catalogue of redshifts, in degrees, NaN where there is no redshift or error.

    ``zwarning`` is negative where unknown; ``kind`` is the spectral class in capitals, or "";
    ``primary`` is the catalogue's own choice among several of one object.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    redshift: NDArray[np.float64]
    redshift_error: NDArray[np.float64]
    zwarning: NDArray[np.int64]
    kind: NDArray[np.str_]
    identifier: NDArray[np.str_]
    primary: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ra)

    def __getitem__(self, rows: Any) -> SkyObjects:
        return SkyObjects(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})


@dataclass
class Matches:
    """The object of each source (n,): its row (-1: none), distance (arcsec), `MatchFlag` bits.

    ``good`` tells whether the object's redshift is to be given.
    """

    row: NDArray[np.intp]
    separation: NDArray[np.float64]
    good: NDArray[np.bool_]
    flags: NDArray[np.int32]


def match_objects(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    objects: SkyObjects,
    radius: float,
    *,
    source: NDArray[np.intp] | None = None,
    zwarning: int | None = 0,
    classes: Collection[str] | None = ("GALAXY",),
) -> Matches:
    """Match sources (n,) in degrees, NaN where without position, with objects, one to one.

    A source and an object belong together if each is the other's nearest, and within the radius.
    All objects take part, whatever their class and quality: a galaxy next to the star that the
    source really is must not take the star's place. Cuts (as in `crossmatch_sdss`) come afterwards.

    ``objects`` are all that are within `REACH` times the radius (arcsec) of a source; rows with the
    same number in ``source`` are the same source, which is matched once.
    """
    n = len(ra)
    flags = np.zeros(n, dtype=np.int32)
    placed = find_placed(ra, dec)
    flags[~placed] |= MatchFlag.NO_POSITION
    result = Matches(np.full(n, -1), np.full(n, np.nan), np.zeros(n, dtype=bool), flags)
    rows = np.flatnonzero(placed)
    numbers = np.arange(n) if source is None else source
    _, first, inverse = np.unique(numbers[rows], return_index=True, return_inverse=True)
    unique = rows[first]

    acceptable = _find_acceptable(objects, zwarning, classes)
    unwarned = _find_acceptable(objects, zwarning, None)
    group, best = _merge_spectra(objects, unwarned)
    if not len(unique) or not len(best):
        return result
    i, j, separation = find_pairs(
        ra[unique], dec[unique], objects.ra[best], objects.dec[best], REACH * radius
    )
    order = np.lexsort((j, i, separation))
    i, j, separation = i[order], j[order], separation[order]
    nearest_object = _take_first(i, len(unique))
    nearest_source = _take_first(j, len(best))
    pair = nearest_object[nearest_object >= 0]
    pair = pair[separation[pair] <= radius]
    mutual = nearest_source[j[pair]] == pair
    per_source = np.zeros(len(unique), dtype=np.int32)
    per_source[i[pair[~mutual]]] |= MatchFlag.TAKEN

    pair = pair[mutual]
    matched, chosen = i[pair], best[j[pair]]
    # How near a second one may be, for each source and each object that are matched.
    doubt = np.maximum(radius, 2 * separation[pair])
    around_source, around_object = np.zeros(len(unique)), np.zeros(len(best))
    around_source[matched], around_object[j[pair]] = doubt, doubt
    n_objects = np.bincount(i[separation <= around_source[i]], minlength=len(unique))
    n_sources = np.bincount(j[separation <= around_object[j]], minlength=len(best))
    bits = np.zeros(len(matched), dtype=np.int32)
    bits[(n_objects[matched] > 1) | (n_sources[j[pair]] > 1)] |= MatchFlag.AMBIGUOUS
    has_redshift = np.isfinite(objects.redshift[chosen])
    bits[~has_redshift] |= MatchFlag.NO_SPECTRUM
    bits[has_redshift & ~acceptable[chosen]] |= MatchFlag.REJECTED
    bits[_find_conflicts(objects, group, unwarned)[j[pair]]] |= MatchFlag.CONFLICT
    per_source[matched] |= bits

    row = np.full(len(unique), -1)
    row[matched] = chosen
    apart = np.full(len(unique), np.nan)
    apart[matched] = separation[pair]
    good = np.zeros(len(unique), dtype=bool)
    good[matched] = has_redshift & acceptable[chosen]
    result.row[rows] = row[inverse]
    result.separation[rows] = apart[inverse]
    result.good[rows] = good[inverse]
    result.flags[rows] |= per_source[inverse]
    return result


def find_pairs(
    ra1: NDArray[np.float64],
    dec1: NDArray[np.float64],
    ra2: NDArray[np.float64],
    dec2: NDArray[np.float64],
    radius: float,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return rows i, j and distance (arcsec) of all pairs within a radius, anywhere on the sky."""
    from astropy import units
    from astropy.coordinates import SkyCoord, search_around_sky

    first = SkyCoord(ra1, dec1, unit="deg")
    second = SkyCoord(ra2, dec2, unit="deg")
    i, j, separation, _ = search_around_sky(first, second, radius * units.arcsec)
    return np.asarray(i), np.asarray(j), np.asarray(separation.to_value("arcsec"))


def _find_acceptable(
    objects: SkyObjects, zwarning: int | None, classes: Collection[str] | None
) -> NDArray[np.bool_]:
    acceptable = np.isfinite(objects.redshift)
    if zwarning is not None:
        acceptable &= (objects.zwarning >= 0) & ((objects.zwarning & ~np.int64(zwarning)) == 0)
    if classes is not None:
        acceptable &= np.isin(objects.kind, [str(one).upper() for one in classes])
    return acceptable


def _merge_spectra(
    objects: SkyObjects, unwarned: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find which rows are of one object; return each row's object, and each object's best row."""
    n = len(objects)
    if n == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    i, j, separation = find_pairs(objects.ra, objects.dec, objects.ra, objects.dec, SAME_NAME)
    same_name = (objects.identifier[i] == objects.identifier[j]) & (objects.identifier[i] != "")
    joined = (separation <= SAME_OBJECT) | same_name
    edges = coo_matrix((np.ones(joined.sum()), (i[joined], j[joined])), shape=(n, n))
    count, group = connected_components(edges, directed=False)
    error = np.where(np.isfinite(objects.redshift_error), objects.redshift_error, np.inf)
    worst_last = np.lexsort(
        (
            objects.ra,  # this and the next: whatever the order of the rows
            objects.dec,
            error,
            ~unwarned,
            ~objects.primary,
            ~np.isfinite(objects.redshift),
        )
    )
    best = np.full(count, -1)
    best[group[worst_last][::-1]] = worst_last[::-1]  # the last to be written is the best
    return group, best


def _find_conflicts(
    objects: SkyObjects, group: NDArray[np.intp], good: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell for each object whether its good spectra disagree."""
    count = int(group.max()) + 1
    lowest, highest = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(lowest, group[good], objects.redshift[good])
    np.maximum.at(highest, group[good], objects.redshift[good])
    with np.errstate(invalid="ignore"):
        return np.asarray(highest - lowest > SAME_REDSHIFT * (1 + lowest))


def _take_first(keys: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return the place of the first occurrence of each key, -1 where there is none."""
    place = np.full(size, -1)
    place[keys[::-1]] = np.arange(len(keys))[::-1]
    return place


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
