"""Which catalogue object is which source: nearest mutual neighbours, and doubts about them.

Positions are compared as they are: galaxies have no proper motion, so the epochs of the catalogues
(Gaia DR3: 2016.0) do not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.flags import MatchFlag
from gaia_redshift.readers.values import find_placed

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "REACH",
    "Matches",
    "SkyObjects",
    "add_matches",
    "find_pairs",
    "match_objects",
    "summarise_matches",
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
        return SkyObjects(*(getattr(self, one.name)[rows] for one in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[SkyObjects]) -> SkyObjects:
        """Put the rows of several below each other."""
        if not parts:
            number, word, whole = np.zeros(0), np.zeros(0, "U1"), np.zeros(0, np.int64)
            return cls(number, number, number, number, whole, word, word, whole.astype(bool))
        return cls(*(np.concatenate([getattr(p, o.name) for p in parts]) for o in fields(cls)))


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
    source: NDArray[np.intp],
    zwarning: int | None,
    classes: Collection[str] | None,
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
    _, first, inverse = np.unique(source[rows], return_index=True, return_inverse=True)
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


def add_matches(table: Table, matches: Matches, objects: SkyObjects, survey: str) -> None:
    """Add the columns of a cross-match to a table of n rows; one of the same name gets ``_in``."""
    from astropy import units
    from astropy.table import MaskedColumn

    matched = matches.row >= 0
    of: dict[str, Any] = {}  # what the object of each row has; zero or "" where there is none
    for one in fields(objects):
        values = getattr(objects, one.name)
        of[one.name] = np.zeros(len(table), dtype=values.dtype if values.dtype.itemsize else "U1")
        of[one.name][matched] = values[matches.row[matched]]
    has_error = matches.good & np.isfinite(of["redshift_error"])
    separation = np.where(matched, matches.separation, 0.0)
    new = {
        f"redshift_{survey}": MaskedColumn(of["redshift"], mask=~matches.good),
        f"redshift_{survey}_error": MaskedColumn(of["redshift_error"], mask=~has_error),
        f"zwarning_{survey}": MaskedColumn(of["zwarning"], mask=~matched | (of["zwarning"] < 0)),
        f"class_{survey}": MaskedColumn(of["kind"], mask=of["kind"] == ""),
        f"id_{survey}": MaskedColumn(of["identifier"], mask=of["identifier"] == ""),
        f"separation_{survey}": MaskedColumn(separation, mask=~matched),
        f"match_flag_{survey}": matches.flags,
    }
    for name, values in new.items():
        if name in table.colnames:  # keep what the user has
            spare = f"{name}_in"
            while spare in table.colnames:
                spare += "_in"
            table.rename_column(name, spare)
        table[name] = values
        unit, ucd, description = _DESCRIPTIONS[name.replace(f"_{survey}", "", 1)]
        if unit is not None:
            table[name].info.unit = units.Unit(unit)
        table[name].info.description = description.format(survey=survey.upper())
        table[name].info.meta = {"ucd": ucd}
    table[f"separation_{survey}"].info.format = ".3f"


_DESCRIPTIONS = {
    "redshift": ("", "src.redshift", "Spectroscopic redshift from {survey}"),
    "redshift_error": ("", "stat.error;src.redshift", "Error of the redshift from {survey}"),
    "zwarning": (None, "meta.code.qual", "Warning bits of the {survey} redshift, 0 is good"),
    "class": (None, "src.class", "Class of the {survey} spectrum"),
    "id": (None, "meta.id.cross", "Identifier in {survey}"),
    "separation": ("arcsec", "pos.angDistance", "Distance of the {survey} object"),
    "match_flag": (
        None,
        "meta.code",
        "Bits about the {survey} match, 0 is clean: "
        + ", ".join(f"{flag.value} {flag.name}" for flag in MatchFlag),
    ),
}
"""Unit, UCD and description of each column, without its ending."""


def summarise_matches(table: Table, survey: str) -> str:
    """Say in a line what a cross-match found; the columns end in ``survey``."""
    flags = np.asarray(table[f"match_flag_{survey}"])
    found = ~np.ma.getmaskarray(np.ma.asarray(table[f"redshift_{survey}"]))
    parts = [f"{len(table):,} rows: {int(found.sum()):,} redshifts"]
    words = {
        MatchFlag.AMBIGUOUS: "ambiguous",
        MatchFlag.CONFLICT: "with spectra that disagree",
        MatchFlag.REJECTED: "rejected by class or zWarning",
        MatchFlag.NO_SPECTRUM: "without a spectrum",
        MatchFlag.TAKEN: "beside a nearer source",
        MatchFlag.NO_POSITION: "without a position",
    }
    for flag, text in words.items():
        count = int((flags & int(flag) != 0).sum())
        if count:
            parts.append(f"{count:,} {text}")
    return ", ".join(parts)
