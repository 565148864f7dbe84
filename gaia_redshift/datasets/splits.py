"""Splits into training, validation and test part that do not leak: by region of the sky.

Galaxies that are neighbours share large-scale structure, reddening and Gaia's scanning, and the
same galaxy may occur twice; a split by rows would put such twins on both sides. Here whole HEALPix
cells go to one part, and a part is chosen by a hash of seed and cell, so that a larger set built
later with the same seed has nearly the same cells in its test part.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.readers.values import find_placed, to_unit_vectors

__all__ = ["PARTS", "SkySplit", "find_regions", "find_twins", "split_regions"]

PARTS = ("train", "validation", "test")
_ID_ORDER, _ID_SHIFT = 12, 35
"""A Gaia source_id holds the HEALPix cell of order 12 (nested) above its lowest 35 bits."""
_LARGEST_ID = 12 * 4**_ID_ORDER << _ID_SHIFT
_ARCSEC = math.pi / 180 / 3600


@dataclass(frozen=True)
class SkySplit:
    """How galaxies are split.

    Parameters
    ----------
    fractions : (float, float, float)
        Of galaxies in training, validation and test part; they add to 1.
    seed : int
    healpix_order : int
        Of the HEALPix cells that stay whole: 5 are 12,288 cells of 1.8 degrees.
    together : float, arcsec
        Galaxies as near as this stay in one part even across the border of cells: they are often
        detections of the same object.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    fractions: tuple[float, float, float] = (0.63, 0.27, 0.10)
    seed: int = 1
    healpix_order: int = 5
    together: float = 10.0

    def __post_init__(self) -> None:
        fractions = tuple(float(v) for v in self.fractions)
        object.__setattr__(self, "fractions", fractions)
        if (
            len(fractions) != len(PARTS)
            or not all(0 < v < 1 for v in fractions)
            or not math.isclose(sum(fractions), 1, abs_tol=1e-9)
        ):
            raise InputError(
                f"fractions must be three positive numbers that add to 1, not {fractions}"
            )
        if not isinstance(self.healpix_order, int) or not 0 <= self.healpix_order <= _ID_ORDER:
            order = self.healpix_order
            raise InputError(f"healpix_order must be from 0 to {_ID_ORDER}, not {order!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed must be a whole number from 0, not {self.seed!r}")
        if not 0 <= self.together <= 3600:
            raise InputError(f"together must be from 0 to 3600 arcsec, not {self.together!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON knows them."""
        return {**asdict(self), "fractions": list(self.fractions)}


def find_regions(
    source_id: NDArray[np.int64],
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    *,
    healpix_order: int = 5,
    together: float = 10.0,
) -> NDArray[np.int64]:
    """Give galaxies that must stay together the same number.

    Parameters
    ----------
    source_id : ndarray, shape (n,), int64
    ra, dec : ndarray, shape (n,), deg
        NaN where unknown: the cell then comes from the ``source_id``, which holds it.
    healpix_order, together
        As in `SkySplit`.

    Returns
    -------
    ndarray, shape (n,), int64
        The HEALPix cell (nested, ICRS), of several twins that of the one with the smallest
        ``source_id``. A galaxy without position whose id is none of Gaia's is a region of its
        own, with a negative number.
    """
    placed = find_placed(ra, dec)
    region = -np.abs(source_id) - 1
    real = (source_id > 0) & (source_id < _LARGEST_ID)
    cell = source_id >> (_ID_SHIFT + 2 * (_ID_ORDER - healpix_order))
    region[real] = cell[real]
    if placed.any():
        from astropy import units
        from astropy_healpix import lonlat_to_healpix

        region[placed] = lonlat_to_healpix(
            ra[placed] * units.deg, dec[placed] * units.deg, 2**healpix_order, order="nested"
        )
    twin = find_twins(source_id, ra, dec, together)
    order = np.lexsort((source_id, twin))
    leader = order[np.unique(twin[order], return_index=True)[1]]
    return region[leader[twin]]


def find_twins(
    source_id: NDArray[np.int64], ra: NDArray[np.float64], dec: NDArray[np.float64], together: float
) -> NDArray[np.intp]:
    """Number rows of one source, and of sources within ``together`` arcsec, alike; shape (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(source_id)
    _, first, same = np.unique(source_id, return_index=True, return_inverse=True)
    edges = [np.column_stack((np.arange(n), first[same.reshape(-1)]))]
    placed = np.flatnonzero(find_placed(ra, dec))
    if together > 0 and len(placed) > 1:
        from scipy.spatial import cKDTree

        chord = 2 * math.sin(together * _ARCSEC / 2)
        tree = cKDTree(to_unit_vectors(ra[placed], dec[placed]))
        pairs = tree.query_pairs(chord, output_type="ndarray")
        edges.append(placed[pairs.reshape(-1, 2)])
    joined = np.concatenate(edges)
    graph = coo_array((np.ones(len(joined), dtype=bool), (joined[:, 0], joined[:, 1])), (n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def split_regions(
    region: NDArray[np.int64],
    fractions: tuple[float, float, float] = (0.63, 0.27, 0.10),
    seed: int = 1,
) -> NDArray[np.str_]:
    """Put whole regions into the training, validation or test part.

    Parameters
    ----------
    region : ndarray, shape (n,), int64
        From `find_regions`.
    fractions : (float, float, float)
        Of galaxies; they are met as nearly as whole regions allow.
    seed : int

    Returns
    -------
    ndarray, shape (n,), of "train", "validation" or "test"
        The same for the same regions and seed, whatever the order of the rows.

    Raises
    ------
    InputError
        If there are too few regions for three parts.

    Warns
    -----
    GaiaRedshiftWarning
        If a part has fewer than half of the galaxies that it should have.
    """
    cells, which, size = np.unique(region, return_inverse=True, return_counts=True)
    order = np.argsort([_hash(seed, int(cell)) for cell in cells], kind="stable")
    before = np.cumsum(size[order]) - size[order]
    middle = (before + size[order] / 2) / max(len(region), 1)
    part_of_cell = np.empty(len(cells), dtype=np.intp)
    part_of_cell[order] = np.searchsorted(np.cumsum(fractions)[:-1], middle, side="right")
    part = part_of_cell[which.reshape(-1)]
    share = np.bincount(part, minlength=len(PARTS)) / max(len(region), 1)
    for name, got, wanted in zip(PARTS, share, fractions, strict=True):
        if not got:
            raise InputError(
                f"the galaxies lie in {len(cells)} regions of the sky, too few for the {name}"
                " part to get any: choose smaller regions (a higher order)"
            )
        if got < wanted / 2:
            warnings.warn(
                f"the {name} part has {100 * got:.1f} % of the galaxies instead of"
                f" {100 * wanted:.0f} %: there are only {len(cells)} regions (a higher order"
                " makes smaller ones)",
                GaiaRedshiftWarning,
                stacklevel=2,
            )
    return np.array(PARTS)[part]


def _hash(seed: int, cell: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{cell}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # fits int64
