"""Made-up skies for the tests of cross-matches, by plain vector algebra."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

FIELDS = {
    "across RA 0": (0.0, 0.0),
    "north pole": (0.0, 89.999),
    "south pole": (180.0, -89.9995),
    "high declination": (359.9999, 75.0),
}


def shift(ra, dec, east, north):
    """Positions moved by so many arcsec on the tangent plane, in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    here = np.column_stack((np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)))
    to_east = np.column_stack((-np.sin(a), np.cos(a), np.zeros_like(a)))
    to_north = np.cross(here, to_east)
    moved = here + np.radians(np.asarray(east) / 3600)[:, None] * to_east
    moved += np.radians(np.asarray(north) / 3600)[:, None] * to_north
    x, y, z = moved.T
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def distance(ra1, dec1, ra2, dec2):
    """Distances in arcsec, by the chord: another way than astropy's."""
    vectors = []
    for ra, dec in ((ra1, dec1), (ra2, dec2)):
        a, d = np.radians(ra), np.radians(dec)
        vectors.append(np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)]))
    chord = np.sqrt(((vectors[0] - vectors[1]) ** 2).sum(axis=0))
    return np.degrees(2 * np.arcsin(chord / 2)) * 3600


def make_field(centre, n, spacing, rng):
    """Positions in a square around a centre, ``spacing`` arcsec apart on average."""
    size = np.sqrt(n) * spacing
    east, north = rng.uniform(-size / 2, size / 2, (2, n))
    return shift(np.full(n, float(centre[0])), np.full(n, float(centre[1])), east, north)


def make_specobj(number, ra, dec, **columns):
    """A table as SkyServer's SpecObj; the redshift tells the number."""
    n = len(number)
    table = Table(
        {
            "specObjID": np.asarray(number, dtype=np.int64) + 299489677444933632,
            "bestObjID": np.asarray(number, dtype=np.int64) + 1237648720142532813,
            "ra": ra,
            "dec": dec,
            "z": 0.01 + 1e-4 * np.asarray(number),
            "zErr": np.full(n, 1e-5),
            "zWarning": np.zeros(n, dtype=np.int64),
            "class": np.full(n, "GALAXY", dtype="U6"),
        }
    )
    for name, values in columns.items():
        table[name] = values
    return table


def to_sdss16(specobj):
    """The same as VizieR's V/154/sdss16, where ``class`` is photometric."""
    return Table(
        {
            "objID": specobj["bestObjID"],
            "RA_ICRS": specobj["ra"],
            "DE_ICRS": specobj["dec"],
            "mode": np.ones(len(specobj), dtype=np.int16),
            "class": np.full(len(specobj), 3, dtype=np.int16),
            "zsp": specobj["z"],
            "e_zsp": specobj["zErr"],
            "f_zsp": specobj["zWarning"].astype(np.int32),
            "spCl": specobj["class"],
        }
    )


def read_numbers(table, survey="sdss"):
    """The numbers of the matched objects, -1 where there is none."""
    redshift = np.ma.filled(np.ma.asarray(table[f"redshift_{survey}"]), np.nan)
    return np.where(np.isfinite(redshift), np.round((redshift - 0.01) * 1e4), -1).astype(int)
