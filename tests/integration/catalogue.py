"""A small made-up sky with a Gaia-like and an SDSS-like table, whose truth is known.

The integration server is filled with it and the tests compare with it. Run as
``python tests/integration/catalogue.py FOLDER`` it writes ``gaiadr3/data/*.csv``,
``gaiadr4/data/*.csv`` and ``sdss/data/*.csv`` below FOLDER. It needs NumPy, SciPy and nothing of
the package.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

SEED = 20221122
N_SOURCES = 10_000
N_GALAXIES = 6_500
N_QUASARS = 1_500
N_MATCHED = 6_600
N_SDSS_ONLY = 1_400
N_DOUBLE = 25

ISOLATION = 30.0
"""Smallest distance, in arcsec, between two sources: far beyond every match radius in use."""
LARGEST_OFFSET = 0.5
"""Largest distance, in arcsec, of a Gaia source and its SDSS counterpart."""
SECOND_OFFSET = 0.8
"""Distance, in arcsec, of the second SDSS object beside the sources that have two."""

Columns = dict[str, np.ndarray]


@dataclass
class Catalogue:
    """The tables by name, and which SDSS object each Gaia source truly is."""

    tables: dict[str, Columns]
    sdss_of: dict[int, int] = field(default_factory=dict)
    doubled: set[int] = field(default_factory=set)
    """Sources with a second SDSS object 0.8 arcsec away."""


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Cartesian unit vectors, shape (n, 3), of positions in degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.column_stack((np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)))


def separation(ra1, dec1, ra2, dec2) -> np.ndarray:
    """Angle between positions in degrees, in degrees; exact for small angles too."""
    chord = np.linalg.norm(unit_vectors(ra1, dec1) - unit_vectors(ra2, dec2), axis=-1)
    return np.degrees(2 * np.arcsin(chord / 2))


def offset_positions(ra, dec, distance, angle) -> tuple[np.ndarray, np.ndarray]:
    """Positions at ``distance`` arcsec from (ra, dec) degrees, towards ``angle`` radians."""
    here = unit_vectors(ra, dec)
    east = np.column_stack((-np.sin(np.radians(ra)), np.cos(np.radians(ra)), np.zeros(len(here))))
    north = np.cross(here, east)
    step = np.radians(np.asarray(distance) / 3600)[:, None]
    towards = np.cos(angle)[:, None] * north + np.sin(angle)[:, None] * east
    there = np.cos(step) * here + np.sin(step) * towards
    return np.degrees(np.arctan2(there[:, 1], there[:, 0])) % 360, np.degrees(
        np.arcsin(there[:, 2])
    )


def draw_positions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Most in a field across RA 0, some near the north pole, the rest anywhere."""
    place = rng.random(n)
    uniform_sin = rng.random(n)
    ra = rng.uniform(0, 360, n)
    dec = np.degrees(np.arcsin(2 * uniform_sin - 1))
    field_across_zero = place < 0.7
    ra = np.where(field_across_zero, rng.uniform(-6, 6, n) % 360, ra)
    dec = np.where(field_across_zero, rng.uniform(-6, 6, n), dec)
    near_pole = (place >= 0.7) & (place < 0.85)
    low = np.sin(np.radians(84.0))
    dec = np.where(near_pole, np.degrees(np.arcsin(low + (1 - low) * uniform_sin)), dec)
    return ra, dec


def draw_isolated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions no two of which are closer than ``ISOLATION``."""
    ra, dec = draw_positions(rng, n)
    chord = 2 * np.sin(np.radians(ISOLATION / 3600) / 2)
    while True:
        pairs = cKDTree(unit_vectors(ra, dec)).query_pairs(chord, output_type="ndarray")
        if len(pairs) == 0:
            return ra, dec
        again = np.unique(pairs[:, 1])
        ra[again], dec[again] = draw_positions(rng, len(again))


def round_float32(values: np.ndarray) -> np.ndarray:
    """Values that a four-byte column keeps exactly."""
    return np.asarray(values, dtype=np.float32).astype(float)


def make_redshifts(rng, truth, scatter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A measured redshift and its bounds around the true one."""
    measured = np.clip(truth + scatter * rng.standard_normal(len(truth)), 0.001, None)
    return (
        round_float32(measured),
        round_float32(np.clip(measured - scatter, 0, None)),
        round_float32(measured + scatter),
    )


def make_catalogue(seed: int = SEED) -> Catalogue:
    """Make every table; the same seed gives the same tables."""
    rng = np.random.default_rng(seed)
    n_all = N_SOURCES + N_SDSS_ONLY
    ra_all, dec_all = draw_isolated(rng, n_all)
    ra, dec = ra_all[:N_SOURCES], dec_all[:N_SOURCES]
    # Beyond 2**53 and odd: an id that passed through a float would come back changed.
    source_id = np.sort(rng.choice(2**32, N_SOURCES, replace=False).astype(np.int64)) * 2**30
    source_id += 2 * rng.integers(0, 2**28, N_SOURCES) + 1
    source_id = rng.permutation(source_id)
    kind = np.array(["galaxy"] * N_GALAXIES + ["quasar"] * N_QUASARS)
    kind = np.append(kind, ["star"] * (N_SOURCES - len(kind)))
    galaxy, quasar = kind == "galaxy", kind == "quasar"
    g_mag = round_float32(21 - 6 * rng.random(N_SOURCES) ** 2)
    colour = np.where(galaxy, 1.3, np.where(quasar, 0.6, 1.0))
    colour = colour + 0.15 * rng.standard_normal(N_SOURCES)
    faint = rng.random(N_SOURCES) < 0.02
    gaia_source = {
        "source_id": source_id,
        "ra": ra,
        "dec": dec,
        "parallax": np.where(galaxy, np.nan, rng.standard_normal(N_SOURCES)),
        "pmra": np.where(galaxy, np.nan, rng.standard_normal(N_SOURCES)),
        "pmdec": np.where(galaxy, np.nan, rng.standard_normal(N_SOURCES)),
        "phot_g_mean_mag": g_mag,
        "phot_bp_mean_mag": np.where(faint, np.nan, round_float32(g_mag + 0.6 * colour)),
        "phot_rp_mean_mag": np.where(faint, np.nan, round_float32(g_mag - 0.7 * colour)),
        "has_xp_continuous": (g_mag < 17.65) | (galaxy & (rng.random(N_SOURCES) < 0.1)),
        "in_galaxy_candidates": galaxy,
        "in_qso_candidates": quasar,
    }

    redshift = np.where(galaxy, rng.gamma(4.0, 0.03, N_SOURCES), rng.uniform(0.1, 4, N_SOURCES))
    redshift = round_float32(redshift)
    n = N_GALAXIES
    ugc, ugc_lower, ugc_upper = make_redshifts(rng, redshift[galaxy], 0.03)
    no_ugc = rng.random(n) < 0.6
    for column in (ugc, ugc_lower, ugc_upper):
        column[no_ugc] = np.nan
    labels = np.array(["galaxy", "star", "quasar", "unclassified", ""])
    tables = {"gaiadr3.gaia_source": gaia_source}
    tables["gaiadr3.galaxy_candidates"] = {
        "source_id": source_id[galaxy],
        "classprob_dsc_combmod_galaxy": round_float32(rng.beta(3, 1, n)),
        "classprob_dsc_combmod_quasar": round_float32(0.1 * rng.random(n)),
        "classlabel_dsc_joint": rng.choice(labels, n, p=[0.5, 0.05, 0.05, 0.3, 0.1]),
        "vari_best_class_name": rng.choice(["GALAXY", "AGN", ""], n, p=[0.3, 0.05, 0.65]),
        "radius_sersic": np.where(rng.random(n) < 0.2, round_float32(rng.gamma(3, 500, n)), np.nan),
        "redshift_ugc": ugc,
        "redshift_ugc_lower": ugc_lower,
        "redshift_ugc_upper": ugc_upper,
    }
    n = N_QUASARS
    qsoc, qsoc_lower, qsoc_upper = make_redshifts(rng, redshift[quasar], 0.02)
    no_qsoc = rng.random(n) < 0.1
    for column in (qsoc, qsoc_lower, qsoc_upper):
        column[no_qsoc] = np.nan
    tables["gaiadr3.qso_candidates"] = {
        "source_id": source_id[quasar],
        "classprob_dsc_combmod_galaxy": round_float32(0.1 * rng.random(n)),
        "classprob_dsc_combmod_quasar": round_float32(rng.beta(3, 1, n)),
        "classlabel_dsc_joint": rng.choice(labels, n, p=[0.05, 0.05, 0.6, 0.2, 0.1]),
        "vari_best_class_name": rng.choice(["AGN", ""], n, p=[0.4, 0.6]),
        "gaia_crf_source": rng.random(n) < 0.3,
        "host_galaxy_flag": rng.choice([1, 2, 5, 6], n, p=[0.1, 0.1, 0.1, 0.7]),
        "redshift_qsoc": qsoc,
        "redshift_qsoc_lower": qsoc_lower,
        "redshift_qsoc_upper": qsoc_upper,
        "flags_qsoc": rng.choice([0, 1, 2, 16], n, p=[0.6, 0.2, 0.1, 0.1]),
    }

    matched = rng.permutation(np.flatnonzero(galaxy | quasar))[:N_MATCHED]
    doubled = matched[:N_DOUBLE]
    distance = LARGEST_OFFSET * np.sqrt(rng.random(N_MATCHED))
    distance[:N_DOUBLE] *= 0.4
    angle = rng.uniform(0, 2 * np.pi, N_MATCHED)
    near_ra, near_dec = offset_positions(ra[matched], dec[matched], distance, angle)
    # On the other side of the source, so that which one is nearer leaves no doubt.
    second_ra, second_dec = offset_positions(
        ra[doubled], dec[doubled], np.full(N_DOUBLE, SECOND_OFFSET), angle[:N_DOUBLE] + np.pi
    )
    n = N_MATCHED + N_DOUBLE + N_SDSS_ONLY
    object_id = 1_237_645_879_551_000_001 + 2 * rng.choice(10**9, n, replace=False)
    spectral = np.where(rng.random(n) < 0.95, "GALAXY", "STAR")
    spectral[:N_MATCHED] = np.where(quasar[matched], "QSO", "GALAXY")
    z = np.concatenate([redshift[matched], round_float32(rng.uniform(0, 0.5, n - N_MATCHED))])
    shuffle = rng.permutation(n)
    sdss = {
        "objid": object_id,
        "ra_icrs": np.concatenate([near_ra, second_ra, ra_all[N_SOURCES:]]),
        "de_icrs": np.concatenate([near_dec, second_dec, dec_all[N_SOURCES:]]),
        "mode": np.ones(n, dtype=int),
        "class": np.where(spectral == "GALAXY", 3, 6),
        "zsp": z,
        "e_zsp": round_float32(rng.gamma(3, 1e-5, n)),
        "f_zsp": rng.choice([0, 4, 16], n, p=[0.95, 0.03, 0.02]),
        "spcl": spectral,
    }
    tables["sdss.sdss16"] = {name: values[shuffle] for name, values in sdss.items()}
    tables.update(make_spectra_table(gaia_source))
    tables.update(make_draft_tables(gaia_source))
    ids = source_id[matched].tolist()
    return Catalogue(
        tables=tables,
        sdss_of=dict(zip(ids, object_id[:N_MATCHED].tolist(), strict=True)),
        doubled=set(ids[:N_DOUBLE]),
    )


def make_spectra_table(gaia_source: Columns, k: int = 4) -> dict[str, Columns]:
    """A mirror's table of coefficients; arrays are text, numbers with blanks between."""
    rng = np.random.default_rng(SEED + 1)
    source_id = gaia_source["source_id"][gaia_source["has_xp_continuous"]]
    n = len(source_id)

    def write(values: np.ndarray) -> np.ndarray:
        return np.array([" ".join(map(repr, row)) for row in values.tolist()])

    table = {"source_id": source_id}
    for band, basis in (("bp", 56), ("rp", 57)):
        table[f"{band}_basis_function_id"] = np.full(n, basis)
        table[f"{band}_n_parameters"] = np.full(n, k)
        table[f"{band}_coefficients"] = write(rng.normal(1000, 100, (n, k)))
        table[f"{band}_coefficient_errors"] = write(round_float32(rng.gamma(3, 1, (n, k))))
        pairs = (n, k * (k - 1) // 2)
        table[f"{band}_coefficient_correlations"] = write(round_float32(rng.uniform(-1, 1, pairs)))
    return {"gaiadr3.xp_continuous_mean_spectrum": table}


def make_draft_tables(gaia_source: Columns) -> dict[str, Columns]:
    """The same sources as the draft of DR4 spreads them; their ids have changed by one."""
    source_id = gaia_source["source_id"] + 1
    n = len(source_id)
    magnitudes = ("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")
    tables = {
        "all_source_flags": {"has_xp": gaia_source["has_xp_continuous"]},
        "all_source_astrometry": {name: gaia_source[name] for name in ("ra", "dec")},
        "all_source_photometry": {name: gaia_source[name] for name in magnitudes},
        "dr3_neighbourhood": {
            "dr3_source_id": gaia_source["source_id"],
            "angular_distance": np.ones(n),
            "probable_match": np.ones(n, dtype=bool),
        },
    }
    return {f"gaiadr4.{name}": {"source_id": source_id, **one} for name, one in tables.items()}


def write_tables(catalogue: Catalogue, folder: Path) -> None:
    """Write each table as ``<schema>/data/<table>.csv``; a missing value is an empty cell."""
    for name, columns in catalogue.tables.items():
        schema, table = name.split(".")
        path = folder / schema / "data" / f"{table}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            rows = zip(*(values.tolist() for values in columns.values()), strict=True)
            # repr, as csv writes floats, is exact; NaN differs from itself.
            writer.writerows(["" if value != value else value for value in row] for row in rows)


if __name__ == "__main__":
    write_tables(make_catalogue(), Path(sys.argv[1]))
