"""What only the live services can confirm: ``pytest --remote-data tests/test_remote.py``.

Off by default. Each test says in its docstring what it confirms, so that a failure names the
assumption that no longer holds and the place in the package that makes it. The requests are few
and small. ``GAIA_REDSHIFT_TAP_URL`` and the like point them to other servers.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from gaia_redshift.archive import (
    ArchiveSettings,
    FetchStatus,
    build_query,
    describe_queries,
    fetch_with_account,
    query_catalogue,
    run_query,
)
from gaia_redshift.archive.connection import Connections
from gaia_redshift.archive.failures import read_reason
from gaia_redshift.archive.releases import RELEASES, find_tables
from gaia_redshift.crossmatch import crossmatch_sdss
from gaia_redshift.errors import ArchiveError

pytestmark = [
    pytest.mark.remote_data,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

COLUMNS = {
    "gaiadr3.gaia_source": """source_id ra dec phot_g_mean_mag phot_bp_mean_mag phot_rp_mean_mag
        has_xp_continuous""",
    "gaiadr3.galaxy_candidates": """source_id redshift_ugc redshift_ugc_lower redshift_ugc_upper
        classprob_dsc_combmod_galaxy classlabel_dsc_joint radius_sersic vari_best_class_name""",
    "gaiadr3.qso_candidates": """source_id redshift_qsoc redshift_qsoc_lower redshift_qsoc_upper
        flags_qsoc classlabel_dsc_joint vari_best_class_name gaia_crf_source host_galaxy_flag""",
}
DR3 = RELEASES["DR3"]
DR4 = RELEASES["DR4"]
UNKNOWN_ID = 3
"""No source: it would be in the first cell of the sky with the running number 3."""


@pytest.fixture
def settings() -> ArchiveSettings:
    return ArchiveSettings(timeout=60, deadline=240, query_deadline=240, tries=3)


@pytest.fixture
def galaxies(settings) -> np.ndarray:
    """A few galaxies with public spectra."""
    return np.asarray(query_catalogue("ugc_galaxies", limit=5, settings=settings)["source_id"])


@pytest.fixture
def without_xp(settings) -> int:
    """A source without a public spectrum."""
    adql = "SELECT TOP 1 source_id FROM gaiadr3.gaia_source WHERE has_xp_continuous = 'False'"
    return int(run_query(adql, settings=settings)["source_id"][0])


def ask_for_data(settings, ids, release=DR3, **fields):
    """One plain request to DataLink."""
    form = {
        "ID": ",".join(map(str, ids)),
        "RELEASE": release.label,
        "DATA_STRUCTURE": release.data_structures[0],
        "RETRIEVAL_TYPE": release.retrieval_type,
        "FORMAT": "fits",
        "USE_ZIP_ALWAYS": "true",
        **fields,
    }
    return Connections(settings).post_data(form)


def list_columns(settings, table):
    """Names and types by the archive's own description."""
    rows = run_query(
        f"SELECT column_name, datatype FROM tap_schema.columns WHERE table_name = '{table}'",
        settings=settings,
    )
    return dict(zip(map(str, rows["column_name"]), map(str, rows["datatype"]), strict=True))


# --- Gaia DR3: tables and queries ---------------------------------------------------------------


@pytest.mark.parametrize("table", COLUMNS)
def test_dr3_columns(settings, table):
    """Confirms: the DR3 tables have the columns that the queries name, and source_id is long."""
    found = list_columns(settings, table)
    assert set(COLUMNS[table].split()) <= set(found)
    assert found["source_id"].lower() in ("long", "bigint")


@pytest.mark.parametrize("name", sorted(describe_queries()))
def test_catalogue_queries_run(settings, name):
    """Confirms: each query is accepted as it is written (dialect, booleans as words, joins)."""
    options = {"cone": {"cone": (195.0, 28.0, 0.5)}, "brightness": {"magnitude": (16.0, 16.1)}}
    result = query_catalogue(
        name, limit=5, with_ugc=True, settings=settings, **options.get(name, {})
    )
    assert 0 < len(result) <= 5
    assert result["source_id"].dtype == np.int64
    assert "redshift_ugc" in result.colnames


def test_async_queries_have_no_hidden_limit(settings):
    """Confirms: an asynchronous job returns more than the 2,000 rows of a synchronous query."""
    adql = build_query("public_xp", limit=2500)
    assert len(run_query(adql, settings=settings)) == 2500


def test_uploads_are_joined(settings, galaxies, without_xp):
    """Confirms: anonymous TAP uploads work, ids stay exact, has_xp_continuous comes as a truth."""
    from astropy.table import Table

    wanted = Table({"source_id": np.append(galaxies, [without_xp, UNKNOWN_ID])})
    result = run_query(
        "SELECT g.source_id, g.has_xp_continuous FROM TAP_UPLOAD.wanted AS w"
        " JOIN gaiadr3.gaia_source AS g ON g.source_id = w.source_id",
        upload={"wanted": wanted},
        settings=settings,
    )
    assert set(result["source_id"].tolist()) == {*galaxies.tolist(), without_xp}
    assert str(result["has_xp_continuous"].dtype) == "bool"
    assert result["has_xp_continuous"].sum() == len(galaxies)


@pytest.mark.parametrize(
    ("adql", "words"),
    [
        ("SELEKT source_id FROM gaiadr3.gaia_source", r"(?i)parse|syntax|encountered"),
        ("SELECT no_such_column FROM gaiadr3.gaia_source", "no_such_column"),
        ("SELECT source_id FROM gaiadr3.no_such_table", "no_such_table"),
        ("SELECT source_id FROM gaiadr3.gaia_source LIMIT 3", "(?i)limit|parse"),
    ],
)
def test_error_bodies_of_queries(settings, adql, words):
    """Confirms: a refused query comes with words that the package finds, and is not tried again."""
    with pytest.raises(ArchiveError, match=words) as caught:
        run_query(adql, settings=settings)
    assert "\n" not in str(caught.value)
    assert "</" not in str(caught.value)


def test_wrong_password_is_said_so(settings):
    """Confirms: how the archive answers a wrong password."""
    if not settings.gaia_tap_url.startswith("https:"):
        pytest.skip("logging in needs https")
    adql = "SELECT TOP 1 source_id FROM gaiadr3.gaia_source"
    login = ("nobody-of-this-name", "wrong-pass-word")
    with pytest.raises(ArchiveError, match=r"(?i)password|log|401|credential") as caught:
        run_query(adql, settings=settings, login=login)
    assert "wrong-pass-word" not in str(caught.value)


# --- Gaia DR3: DataLink -------------------------------------------------------------------------


def test_every_id_is_accounted_for(settings, galaxies, without_xp):
    """Confirms: XP_CONTINUOUS, structure RAW, format fits; ids without spectra are left out."""
    asked = [*galaxies.tolist(), without_xp, UNKNOWN_ID]
    spectra, account = fetch_with_account(asked, cache=False, settings=settings)
    n = len(galaxies)
    expected = [FetchStatus.SPECTRUM] * n + [FetchStatus.NO_PUBLIC_XP, FetchStatus.UNKNOWN_ID]
    np.testing.assert_array_equal(account.status, expected)
    np.testing.assert_array_equal(spectra.source_id, asked)
    for band in (spectra.bp, spectra.rp):
        assert band.coefficients.shape[1] == 55
        assert np.isfinite(band.coefficients[:n]).all()
        assert (band.errors[:n] > 0).all()


@pytest.mark.parametrize("structure", DR3.data_structures)
def test_data_structures(settings, galaxies, structure):
    """Confirms: which of the names for "one row a source" the archive takes, and the zip's names.

    The package sends the first, and reads from a refusal which it takes: one must pass.
    """
    answer = ask_for_data(settings, galaxies, DATA_STRUCTURE=structure)
    if answer.status != 200 and structure != DR3.data_structures[0]:
        pytest.xfail(f"HTTP {answer.status}: {read_reason(answer)}")
    assert answer.status == 200, read_reason(answer)
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == [f"XP_CONTINUOUS_{structure}.fits"]


@pytest.mark.parametrize("form", ["fits", "csv", "votable"])
def test_formats_hold_the_same_spectra(settings, galaxies, form, monkeypatch):
    """Confirms: the archive's own files of each format are read by the package's readers."""
    reference, _ = fetch_with_account(galaxies, cache=False, settings=settings)
    monkeypatch.setattr("gaia_redshift.archive.datalink.FORMAT", form)
    got, account = fetch_with_account(galaxies, cache=False, settings=settings)
    assert account.counts == {"spectrum": len(galaxies)}
    for band in ("bp", "rp"):
        ours, theirs = getattr(got, band), getattr(reference, band)
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients, rtol=1e-6)
        np.testing.assert_allclose(ours.correlations, theirs.correlations, rtol=1e-5, atol=1e-6)


def test_no_spectrum_at_all(settings, without_xp):
    """Confirms: what comes when none of the ids has a spectrum (204, or an empty zip)."""
    answer = ask_for_data(settings, [without_xp])
    assert answer.status in (200, 204)
    _, account = fetch_with_account([without_xp], cache=False, settings=settings)
    assert account.status.tolist() == [FetchStatus.NO_PUBLIC_XP]


def test_5000_ids_are_the_limit(settings):
    """Confirms: 5,001 ids are refused, with words that name the limit."""
    answer = ask_for_data(settings, range(4_295_806_720, 4_295_806_720 + 5001))
    assert answer.status >= 400
    assert "5000" in read_reason(answer).replace(",", "")


def test_error_body_of_an_unknown_retrieval_type(settings, galaxies):
    """Confirms: how DataLink words an error."""
    answer = ask_for_data(settings, galaxies, RETRIEVAL_TYPE="NO_SUCH_TYPE")
    assert answer.status >= 400 or not answer.body.startswith(b"PK")
    assert read_reason(answer)


# --- Gaia DR4 -----------------------------------------------------------------------------------


@pytest.fixture
def dr4_tables(settings) -> set[str]:
    rows = run_query(
        "SELECT table_name FROM tap_schema.tables WHERE table_name LIKE '%dr4%'"
        " OR table_name LIKE '%dr3_neighbourhood%'",
        settings=settings,
    )
    if not len(rows):
        pytest.skip("the archive does not have Gaia DR4 yet")
    return set(map(str, rows["table_name"]))


def test_dr4_names(settings, dr4_tables):
    """Confirms: the tables with flag, positions, magnitudes and neighbours are among candidates.

    If it fails, correct the entry "DR4" in ``gaia_redshift/archive/releases.py``.
    """
    found = find_tables(Connections(settings), DR4)
    assert found.find_flag().table in dr4_tables
    assert found.find_positions() in dr4_tables
    assert found.find_magnitudes() in dr4_tables
    assert found.find_neighbours() in dr4_tables


@pytest.mark.usefixtures("dr4_tables")
def test_dr4_spectra(settings):
    """Confirms: DR4's retrieval type, its structure, and which numbers of coefficients come."""
    flag = find_tables(Connections(settings), DR4).find_flag()
    adql = f"SELECT TOP 3 source_id FROM {flag.table} WHERE {flag.column} {flag.condition}"
    ids = run_query(adql, settings=settings)["source_id"]
    spectra, account = fetch_with_account(ids, release="DR4", cache=False, settings=settings)
    assert account.counts == {"spectrum": 3}
    shapes = spectra.bp.coefficients.shape[1], spectra.rp.coefficients.shape[1]
    assert shapes in {(55, 55), (48, 44), (51, 55)}


# --- SDSS ---------------------------------------------------------------------------------------


@pytest.fixture
def sdss_galaxies(settings):
    """Galaxies of the Coma cluster as TAPVizieR has them."""
    import pyvo

    service = pyvo.dal.TAPService(settings.vizier_tap_url)
    return service.run_sync(
        'SELECT TOP 20 objID, RA_ICRS, DE_ICRS, zsp, e_zsp, f_zsp, spCl, mode FROM "V/154/sdss16"'
        " WHERE spCl = 'GALAXY' AND f_zsp = 0 AND zsp > 0.01 AND mode = 1"
        " AND 1 = CONTAINS(POINT('ICRS', RA_ICRS, DE_ICRS), CIRCLE('ICRS', 194.95, 27.98, 0.3))"
    ).to_table()


@pytest.mark.parametrize("service", ["xmatch", "tapvizier", "skyserver"])
def test_sdss_services(settings, sdss_galaxies, service):
    """Confirms: each service's address and columns (objID, zsp, e_zsp, f_zsp, spCl; z, zErr, ...).

    The three must give the redshifts of the same objects, SkyServer's those of a later release.
    """
    positions = {
        "ra": np.asarray(sdss_galaxies["RA_ICRS"]),
        "dec": np.asarray(sdss_galaxies["DE_ICRS"]),
    }
    result = crossmatch_sdss(positions, 1.0, service=service, settings=settings)
    found = ~np.ma.getmaskarray(np.ma.asarray(result["redshift_sdss"]))
    assert found.sum() >= 0.8 * len(found) > 0
    np.testing.assert_allclose(
        np.asarray(result["redshift_sdss"])[found],
        np.asarray(sdss_galaxies["zsp"])[found],
        atol=1e-3,
    )
    assert set(result["class_sdss"][found]) == {"GALAXY"}
    assert (np.asarray(result["separation_sdss"])[found] < 1).all()


def test_xmatch_columns(settings, sdss_galaxies):
    """Confirms: the columns that CDS XMatch returns for vizier:V/154/sdss16."""
    from astropy import units
    from astropy.table import Table
    from astroquery.xmatch import XMatchClass

    client = XMatchClass()
    client.URL, client.TIMEOUT = settings.xmatch_url, settings.timeout
    mine = Table({"ra": sdss_galaxies["RA_ICRS"], "dec": sdss_galaxies["DE_ICRS"]})
    result = client.query(
        cat1=mine,
        cat2="vizier:V/154/sdss16",
        max_distance=1 * units.arcsec,
        colRA1="ra",
        colDec1="dec",
        cache=False,
    )
    names = {name.lower() for name in result.colnames}
    assert {"angdist", "ra", "dec", "objid", "zsp", "e_zsp", "f_zsp", "spcl"} <= names
