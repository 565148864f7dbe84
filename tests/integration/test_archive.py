"""The package's own queries, uploads and position matching against a real TAP server.

The server speaks plain TAP; of astroquery's dialect of the Gaia archive only that part is used
here. DataLink and the login are tested against doubles, since no other server has them.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from astropy.table import Table

from gaia_redshift.archive.jobs import run_query
from gaia_redshift.archive.queries import build_query, query_catalogue
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.errors import ArchiveError
from integration.catalogue import offset_positions, separation

N_ROWS = 6_000


@pytest.fixture(scope="module")
def settings(tap_url) -> ArchiveSettings:
    return ArchiveSettings(gaia_tap_url=tap_url, timeout=60, query_deadline=120, tries=2)


@pytest.fixture(scope="module")
def sources(catalogue):
    return catalogue.tables["gaiadr3.gaia_source"]


def filled(column):
    values = np.ma.asarray(column)
    return np.asarray(values.filled(np.nan) if values.dtype.kind == "f" else values)


def find_rows(ids, wanted):
    """Where each of ``wanted`` is in ``ids``."""
    order = np.argsort(ids)
    rows = order[np.searchsorted(ids, wanted, sorter=order)]
    np.testing.assert_array_equal(ids[rows], wanted)
    return rows


def test_run_query_returns_exact_values(settings, sources):
    result = run_query("SELECT * FROM gaiadr3.gaia_source", settings=settings)
    assert result["source_id"].dtype == np.int64
    assert len(result) == len(sources["source_id"])
    rows = find_rows(sources["source_id"], filled(result["source_id"]))
    for name, values in sources.items():
        np.testing.assert_array_equal(filled(result[name]), values[rows], err_msg=name)


def test_run_query_uploads_6000_ids(settings, sources):
    ids = np.concatenate([sources["source_id"][: N_ROWS - 50], sources["source_id"][:50] + 1])
    result = run_query(
        "SELECT w.source_id, g.phot_g_mean_mag FROM TAP_UPLOAD.wanted AS w"
        " LEFT OUTER JOIN gaiadr3.gaia_source AS g ON g.source_id = w.source_id",
        upload={"wanted": Table({"source_id": ids})},
        settings=settings,
    )
    assert sorted(result["source_id"].tolist()) == sorted(ids.tolist())
    known = ~np.ma.getmaskarray(np.ma.asarray(result["phot_g_mean_mag"]))
    known &= np.isfinite(filled(result["phot_g_mean_mag"]))
    assert set(result["source_id"][~known].tolist()) == set(ids[-50:].tolist())


@pytest.mark.parametrize(
    ("adql", "words"),
    [
        ("SELEKT source_id FROM gaiadr3.gaia_source", "parse"),
        ("SELECT no_such_column FROM gaiadr3.gaia_source", "no_such_column"),
        ("SELECT source_id FROM gaiadr3.no_such_table", "no_such_table"),
    ],
)
def test_refused_query_is_one_line_with_the_servers_words(settings, adql, words):
    with pytest.raises(ArchiveError, match=words) as caught:
        run_query(adql, settings=settings)
    assert "\n" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_query_past_its_deadline_is_given_up(settings):
    slow = (  # no condition that an index could serve: 10^12 rows
        "SELECT COUNT(*) AS n FROM gaiadr3.gaia_source AS a, gaiadr3.gaia_source AS b,"
        " gaiadr3.gaia_source AS c WHERE a.ra + b.ra * c.ra < 0"
    )
    began = time.monotonic()
    with pytest.raises(ArchiveError, match="did not finish"):
        run_query(slow, settings=settings, deadline=6)
    assert time.monotonic() - began < 20


def test_missing_spectra_are_explained(settings, sources):
    from gaia_redshift.archive.account import FetchStatus
    from gaia_redshift.archive.connection import Connections
    from gaia_redshift.archive.failures import Patience
    from gaia_redshift.archive.releases import explain_missing, find_release

    has_xp = sources["has_xp_continuous"]
    ids = sources["source_id"]
    asked = np.concatenate([ids[has_xp][:500], ids[~has_xp][:500], ids[:500] + 1])
    status = explain_missing(
        Connections(settings), asked, find_release("DR3"), Patience(settings, 120.0)
    )
    expected = [FetchStatus.PENDING, FetchStatus.NO_PUBLIC_XP, FetchStatus.UNKNOWN_ID]
    np.testing.assert_array_equal(status, np.repeat(expected, 500))


def test_6000_positions_find_their_sources(settings, sources):
    from gaia_redshift.archive.connection import Connections
    from gaia_redshift.archive.releases import find_release
    from gaia_redshift.archive.sources import resolve_sources

    rng = np.random.default_rng(7)
    ra, dec = offset_positions(
        sources["ra"][:N_ROWS],
        sources["dec"][:N_ROWS],
        0.9 * rng.random(N_ROWS),
        rng.uniform(0, 2 * np.pi, N_ROWS),
    )
    expected = sources["source_id"][:N_ROWS].copy()
    nowhere = rng.choice(N_ROWS, 200, replace=False)
    ra[nowhere], dec[nowhere] = offset_positions(
        ra[nowhere], dec[nowhere], np.full(200, 10.0), np.zeros(200)
    )
    expected[nowhere] = 0
    wanted = resolve_sources(
        Table({"ra": ra, "dec": dec}),
        find_release("DR3"),
        lambda: Connections(settings),
        radius=1.0,
    )
    np.testing.assert_array_equal(wanted.source_id, expected)
    found = expected != 0
    arcsec = 3600 * separation(ra, dec, sources["ra"][:N_ROWS], sources["dec"][:N_ROWS])
    np.testing.assert_allclose(
        np.asarray(wanted.columns["separation_gaia"])[found], arcsec[found], atol=1e-5
    )


def select_sources(sources, options):
    """Which sources the options of `build_query` leave."""
    keep = np.ones(len(sources["source_id"]), dtype=bool)
    if options.get("public_xp", True):
        keep &= sources["has_xp_continuous"]
    if "magnitude" in options:
        bright, faint = options["magnitude"]
        keep &= (sources["phot_g_mean_mag"] >= bright) & (sources["phot_g_mean_mag"] <= faint)
    if "cone" in options:
        ra, dec, radius = options["cone"]
        centre = np.array([ra]), np.array([dec])
        keep &= separation(sources["ra"], sources["dec"], *centre) <= radius
    return set(sources["source_id"][keep].tolist())


ZERO = (359.9, 0.3, 4.0)
POLE = (80.0, 89.0, 3.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cone", {"cone": ZERO}),
        ("cone", {"cone": POLE, "public_xp": False, "with_ugc": True}),
        ("brightness", {"magnitude": (16.0, 17.5)}),
        ("brightness", {"magnitude": (17.0, 18.0), "public_xp": False, "cone": ZERO}),
        ("public_xp", {}),
        ("public_xp", {"magnitude": (15.5, 16.5), "cone": ZERO, "with_ugc": True}),
    ],
)
def test_source_queries_find_what_they_should(settings, catalogue, sources, name, options):
    result = query_catalogue(name, settings=settings, **options)
    assert set(result["source_id"].tolist()) == select_sources(sources, options)
    assert len(result) == len(set(result["source_id"].tolist())) > 5
    if options.get("with_ugc"):
        galaxies = catalogue.tables["gaiadr3.galaxy_candidates"]
        truth = dict(zip(galaxies["source_id"].tolist(), galaxies["redshift_ugc"], strict=True))
        expected = [truth.get(i, np.nan) for i in result["source_id"].tolist()]
        np.testing.assert_array_equal(filled(result["redshift_ugc"]), expected)
        assert np.isfinite(expected).any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pure": False},
        {"public_xp": False, "cone": ZERO},
        {"public_xp": False, "magnitude": (17, 20)},
    ],
)
def test_ugc_galaxies(settings, catalogue, sources, options):
    table = catalogue.tables["gaiadr3.galaxy_candidates"]
    keep = np.isfinite(table["redshift_ugc"])
    if options.get("pure", True):
        keep &= (
            np.isfinite(table["radius_sersic"])
            | (table["classlabel_dsc_joint"] == "galaxy")
            | (table["vari_best_class_name"] == "GALAXY")
        )
    expected = set(table["source_id"][keep].tolist()) & select_sources(sources, options)
    result = query_catalogue("ugc_galaxies", settings=settings, **options)
    assert set(result["source_id"].tolist()) == expected
    assert len(result) == len(expected) > 5
    rows = find_rows(table["source_id"], filled(result["source_id"]))
    for name in ("redshift_ugc", "redshift_ugc_lower", "redshift_ugc_upper"):
        np.testing.assert_array_equal(filled(result[name]), table[name][rows])


@pytest.mark.parametrize("options", [{}, {"pure": False, "clean": False, "public_xp": False}])
def test_quasar_candidates(settings, catalogue, sources, options):
    table = catalogue.tables["gaiadr3.qso_candidates"]
    keep = np.isfinite(table["redshift_qsoc"])
    if options.get("clean", True):
        keep &= table["flags_qsoc"] == 0
    if options.get("pure", True):
        keep &= (
            table["gaia_crf_source"]
            | (table["host_galaxy_flag"] < 6)
            | (table["classlabel_dsc_joint"] == "quasar")
            | (table["vari_best_class_name"] == "AGN")
        )
    expected = set(table["source_id"][keep].tolist()) & select_sources(sources, options)
    result = query_catalogue("quasar_candidates", settings=settings, **options)
    assert set(result["source_id"].tolist()) == expected
    assert len(result) == len(expected) > 5


def connect(settings):
    from gaia_redshift.archive.connection import Connections

    return Connections(settings)


def test_tables_are_found_in_tap_schema(settings):
    from gaia_redshift.archive.releases import find_release, find_tables

    dr3 = find_tables(connect(settings), find_release("DR3"), refresh=True)
    assert dr3.find_flag().table == dr3.find_positions() == "gaiadr3.gaia_source"
    assert "redshift_ugc" in dr3.list_redshifts("galaxy_candidates")
    dr4 = find_tables(connect(settings), find_release("DR4"))
    flag = dr4.find_flag()
    assert (flag.table, flag.column) == ("gaiadr4.all_source_flags", "has_xp")
    assert dr4.find_positions() == "gaiadr4.all_source_astrometry"
    assert dr4.find_magnitudes() == "gaiadr4.all_source_photometry"


def test_queries_join_the_tables_of_the_draft(settings, sources):
    options = {"cone": ZERO, "magnitude": (15.0, 18.0)}
    result = query_catalogue("public_xp", release="DR4", settings=settings, **options)
    expected = {one + 1 for one in select_sources(sources, options)}
    assert set(result["source_id"].tolist()) == expected
    assert len(expected) > 5


def test_ids_of_dr3_are_brought_over(settings, sources):
    from gaia_redshift.archive.releases import find_release
    from gaia_redshift.archive.sources import AskedSources, bring_over

    ids = sources["source_id"][:1200]
    asked = bring_over(AskedSources(ids), find_release("DR4"), connect(settings))
    np.testing.assert_array_equal(asked.source_id, ids + 1)


def test_a_few_positions_find_their_sources_without_an_upload(settings, sources):
    from gaia_redshift.archive.releases import find_release
    from gaia_redshift.archive.sources import find_nearest

    found, separation = find_nearest(
        connect(settings), sources["ra"][:90], sources["dec"][:90], find_release("DR4"), 1.0
    )
    np.testing.assert_array_equal(found, sources["source_id"][:90] + 1)
    assert (separation < 1e-6).all()


def test_a_mirrors_table_gives_spectra_and_an_account(tap_url, settings, sources, catalogue):
    from gaia_redshift.archive import fetch_with_account, use_mirror

    truth = catalogue.tables["gaiadr3.xp_continuous_mean_spectrum"]
    ids = np.concatenate([sources["source_id"][:1500], [sources["source_id"][0] + 1]])
    spectra, account = fetch_with_account(ids, settings=use_mirror(tap_url, settings), cache=False)
    has_xp = sources["has_xp_continuous"][:1500]
    assert account.complete, account.summary()
    assert account.counts == {
        "spectrum": has_xp.sum(),
        "no public XP": (~has_xp).sum(),
        "unknown id": 1,
    }
    rows = find_rows(truth["source_id"], ids[:1500][has_xp])
    for name in ("bp", "rp"):
        expected = np.array([row.split() for row in truth[f"{name}_coefficients"][rows]], float)
        band = getattr(spectra, name)
        np.testing.assert_array_equal(band.coefficients[:1500][has_xp], expected)
        errors = np.array([row.split() for row in truth[f"{name}_coefficient_errors"][rows]], float)
        np.testing.assert_allclose(band.errors[:1500][has_xp], errors, rtol=1e-6)


def test_limit_is_honoured(settings):
    assert "TOP 17" in build_query("public_xp", limit=17)
    assert len(query_catalogue("public_xp", limit=17, settings=settings)) == 17
