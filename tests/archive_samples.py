"""Made-up spectra and tables for the tests of the archive, and servers that have them."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from doubles.gaia_archive import GaiaArchiveDouble

from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.spectra import BandSpectra, XPSpectra, n_correlations

FIRST_ID = 5937083312263887616


def make_spectra(n, k=6, seed=0, first=FIRST_ID):
    """Spectra with k coefficients a band: small k keeps big tests quick."""
    rng = np.random.default_rng(seed)

    def make_band(basis_id):
        return BandSpectra(
            rng.normal(1000, 100, (n, k)),
            errors=rng.random((n, k)).astype(np.float32),
            correlations=rng.uniform(-1, 1, (n, n_correlations(k))).astype(np.float32),
            basis_id=np.full(n, basis_id, dtype=np.int16),
        )

    return XPSpectra(first + 1 + 2 * np.arange(n), make_band(56), make_band(57))


def make_sources(spectra, n_without=0):
    """A gaia_source that has the spectra's sources and others without public XP."""
    without = FIRST_ID + 2 * np.arange(n_without)
    source_id = np.concatenate([spectra.source_id, without])
    rng = np.random.default_rng(1)
    n = len(source_id)
    table = Table(
        {
            "source_id": source_id,
            "ra": rng.uniform(0, 360, n),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
            "phot_g_mean_mag": rng.uniform(15, 21, n),
            "has_xp_continuous": np.arange(n) < len(spectra),
        }
    )
    table["ra"].unit = table["dec"].unit = "deg"
    table["phot_g_mean_mag"].unit = "mag"
    return table


def make_archive(n=40, n_without=10, k=6, **options):
    spectra = make_spectra(n, k)
    return GaiaArchiveDouble(spectra, make_sources(spectra, n_without), **options)


def make_draft_archive(n=40, n_without=10, k=6, flag="boolean", **options):
    """DR4 as ESA's draft has it: gaia_source has no flag, and every third source is not in it.

    The flag is ``boolean``, a ``byte`` of grades, or the ``rows`` of xp_summary.
    """
    spectra = make_spectra(n, k)
    sources = make_sources(spectra, n_without)
    has_xp = np.asarray(sources["has_xp_continuous"])
    inside = np.arange(len(sources)) % 3 != 0
    flags = sources[["source_id"]]
    flags["has_xp"] = has_xp if flag == "boolean" else 2 * has_xp.astype(np.int16)
    flags["has_epoch_xp"] = has_xp
    flags["in_gaia_source"] = inside
    rng = np.random.default_rng(3)
    galaxies = sources[["source_id"]][::2]
    galaxies["redshift_ugc"] = rng.uniform(0, 0.4, len(galaxies))
    galaxies["classlabel_dsc_joint"] = "galaxy"
    tables = {
        "all_source_flags": flags,
        "all_source_astrometry": sources[["source_id", "ra", "dec"]],
        "all_source_photometry": sources[["source_id", "phot_g_mean_mag"]],
        "galaxy_candidates": galaxies,
        "dr3_neighbourhood": make_neighbours(np.array(sources["source_id"])),
    }
    for name in ("bp", "rp"):
        tables["all_source_photometry"][f"phot_{name}_mean_mag"] = sources["phot_g_mean_mag"]
    if flag == "rows":
        del tables["all_source_flags"]
        tables["xp_summary"] = sources[["source_id"]][has_xp]
    return GaiaArchiveDouble(
        spectra,
        sources[["source_id", "ra", "dec", "phot_g_mean_mag"]][inside],
        {f"gaiadr4.{name}": table for name, table in tables.items()},
        **{
            "release": "Gaia DR4",
            "schema": "gaiadr4",
            "retrieval_type": "MEAN_SPECTRUM_XP",
            **options,
        },
    )


def make_neighbours(source_id):
    """DR3's ids, 1,000 more than DR4's; each has a wrong neighbour too, nearer for odd ones."""
    n = len(source_id)
    odd = np.arange(n) % 2 == 1
    return Table(
        {
            "source_id": np.concatenate([source_id, np.roll(source_id, 1)]),
            "dr3_source_id": np.tile(source_id + 1000, 2),
            "angular_distance": np.concatenate([np.full(n, 20.0), np.where(odd, 10.0, 30.0)]),
            "magnitude_difference": np.zeros(2 * n),
            "probable_match": np.concatenate([odd, np.zeros(n, dtype=bool)]),
        }
    )


def make_settings(archive, **options):
    quick = {
        "gaia_tap_url": archive.tap_url,
        "gaia_data_url": archive.data_url,
        "timeout": 10.0,
        "deadline": 60.0,
        "query_deadline": 60.0,
        "first_wait": 0.01,
        "longest_wait": 0.05,
        "first_poll": 0.01,
        "longest_poll": 0.05,
        "chunk_size": 10,
    }
    return ArchiveSettings(**{**quick, **options})


def check_rows(got, asked, archive):
    """Every row asked for is there, in order, with its spectrum or without any."""
    np.testing.assert_array_equal(got.source_id, asked)
    rows = np.array([archive.row_of.get(int(i), -1) for i in asked])
    have = rows >= 0
    truth = archive.spectra[rows[have]]
    for band in ("bp", "rp"):
        ours, theirs = getattr(got, band), getattr(truth, band)
        assert (ours.n_coefficients[~have] == 0).all()
        assert np.isnan(ours.coefficients[~have]).all()
        if not have.any():
            continue
        np.testing.assert_array_equal(ours.n_coefficients[have], theirs.n_coefficients)
        np.testing.assert_array_equal(ours.basis_id[have], theirs.basis_id)
        np.testing.assert_array_equal(ours.coefficients[have], theirs.coefficients)
        np.testing.assert_array_equal(ours.errors[have], theirs.errors)
        np.testing.assert_array_equal(ours.correlations[have], theirs.correlations)
