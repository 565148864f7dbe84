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
