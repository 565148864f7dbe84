"""Catalogue queries: their texts, and what they find in a made-up archive."""

import re
from pathlib import Path

import numpy as np
import pytest
from archive_samples import make_draft_archive, make_settings
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from doubles.adql import AdqlDatabase
from doubles.gaia_archive import GaiaArchiveDouble

from gaia_redshift.archive import ArchiveSettings, build_query, describe_queries, query_catalogue
from gaia_redshift.errors import ArchiveError, InputError

FOLDER = Path(__file__).parents[1] / "catalogs" / "queries"
NAMES = ("brightness", "cone", "public_xp", "quasar_candidates", "ugc_galaxies")
CENTRE = SkyCoord(190.0, 30.0, unit="deg")


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(8)
    n = 3000
    source = Table(
        {
            "source_id": rng.permutation(n).astype(np.int64) + 2**61,
            "ra": rng.uniform(180, 200, n),
            "dec": rng.uniform(20, 40, n),
            "phot_g_mean_mag": rng.uniform(13, 20.5, n),
            "phot_bp_mean_mag": rng.uniform(13, 20.5, n),
            "phot_rp_mean_mag": rng.uniform(13, 20.5, n),
            "has_xp_continuous": rng.random(n) < 0.6,
        }
    )

    def hide(values, share):
        return MaskedColumn(values, mask=rng.random(len(values)) < share)

    def candidates(prefix, rows, **more):
        m = len(rows)
        z = rng.uniform(0, 0.6, m)
        there = rng.random(m) < 0.3
        table = Table({"source_id": source["source_id"][rows]})
        for name, values in ((prefix, z), (f"{prefix}_lower", z - 0.01), (f"{prefix}_upper", z)):
            table[name] = MaskedColumn(values, mask=there)
        for name, values in more.items():
            table[name] = values(m)
        return table

    galaxies = candidates(
        "redshift_ugc",
        rng.permutation(n)[:1500],
        radius_sersic=lambda m: hide(rng.uniform(100, 900, m), 0.8),
        classlabel_dsc_joint=lambda m: rng.choice(["galaxy", "unclassified"], m, p=[0.3, 0.7]),
        vari_best_class_name=lambda m: hide(rng.choice(["GALAXY", "AGN"], m), 0.7),
    )
    quasars = candidates(
        "redshift_qsoc",
        rng.permutation(n)[:1500],
        flags_qsoc=lambda m: rng.choice([0, 8, 16], m),
        gaia_crf_source=lambda m: rng.random(m) < 0.1,
        host_galaxy_flag=lambda m: hide(rng.integers(1, 8, m), 0.8),
        classlabel_dsc_joint=lambda m: rng.choice(["quasar", "unclassified"], m, p=[0.2, 0.8]),
        vari_best_class_name=lambda m: hide(rng.choice(["GALAXY", "AGN"], m), 0.7),
    )
    return source, galaxies, quasars


@pytest.fixture(scope="module")
def database(tables):
    names = ("gaia_source", "galaxy_candidates", "qso_candidates")
    database = AdqlDatabase({f"gaiadr3.{n}": t for n, t in zip(names, tables, strict=True)})
    yield database
    database.close()


def choose(table, column, test):
    """A condition on a column that holds where it is known."""
    values = np.ma.masked_array(table[column])
    return np.ma.filled(test(values), False) & ~np.ma.getmaskarray(values)


def expect(tables, name, *, cone=None, magnitude=None, public_xp=True, pure=True, clean=True):
    """The ids that a query must find, by another way."""
    source, galaxies, quasars = tables
    keep = np.ones(len(source), dtype=bool)
    if cone is not None:
        keep &= SkyCoord(source["ra"], source["dec"], unit="deg").separation(CENTRE).deg <= cone
    if magnitude is not None:
        g = source["phot_g_mean_mag"]
        keep &= (g >= magnitude[0]) & (g <= magnitude[1])
    if public_xp:
        keep &= source["has_xp_continuous"]
    ids = set(source["source_id"][keep].tolist())
    if name == "ugc_galaxies":
        rows = ~galaxies["redshift_ugc"].mask
        if pure:
            rows &= (
                ~galaxies["radius_sersic"].mask
                | choose(galaxies, "classlabel_dsc_joint", lambda v: v == "galaxy")
                | choose(galaxies, "vari_best_class_name", lambda v: v == "GALAXY")
            )
        ids &= set(galaxies["source_id"][rows].tolist())
    if name == "quasar_candidates":
        rows = ~quasars["redshift_qsoc"].mask
        if clean:
            rows &= quasars["flags_qsoc"] == 0
        if pure:
            rows &= (
                quasars["gaia_crf_source"]
                | choose(quasars, "host_galaxy_flag", lambda v: v < 6)
                | choose(quasars, "classlabel_dsc_joint", lambda v: v == "quasar")
                | choose(quasars, "vari_best_class_name", lambda v: v == "AGN")
            )
        ids &= set(quasars["source_id"][rows].tolist())
    return ids


def test_one_copy_of_each_text():
    assert tuple(describe_queries()) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.adql")) == sorted(NAMES)
    assert FOLDER.resolve().parts[-3:] == ("gaia_redshift", "data", "queries")


@pytest.mark.parametrize("name", NAMES)
def test_the_files_run_as_they_stand(database, tables, name):
    text = (FOLDER / f"{name}.adql").read_text()
    found = database.query(text)
    options = {"cone": 0.5 if name == "cone" else 5.0, "magnitude": (14.0, 19.0)}
    if name == "brightness":
        options["magnitude"] = (14.0, 14.1)
    assert set(found["source_id"].tolist()) == expect(tables, name, **options)
    assert name in ("brightness", "cone") or len(found) > 10
    assert "redshift_ugc_upper" in found.colnames


@pytest.mark.parametrize("name", NAMES)
def test_the_values_in_a_file_give_the_file(name):
    """The lines that options fill are those of the file, with other numbers at most."""
    text = (FOLDER / f"{name}.adql").read_text()
    plain = [re.sub(r"\s*--.*", "", line) for line in text.splitlines()]
    magnitude = (14.0, 14.1) if name == "brightness" else (14.0, 19.0)
    radius = 0.5 if name == "cone" else 5.0
    built = build_query(
        name, cone=(190.0, 30.0, radius), magnitude=magnitude, limit=2000, with_ugc=True
    )
    assert built.splitlines() == [line for line in plain if line]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ugc_galaxies", {}),
        ("ugc_galaxies", {"pure": False}),
        ("ugc_galaxies", {"public_xp": False, "magnitude": (15, 17.5)}),
        ("ugc_galaxies", {"cone": 3.0}),
        ("quasar_candidates", {}),
        ("quasar_candidates", {"pure": False, "clean": False, "cone": 4.0}),
        ("cone", {"cone": 2.0}),
        ("cone", {"cone": 2.0, "public_xp": False, "magnitude": (14, 16)}),
        ("brightness", {"magnitude": (14, 16), "public_xp": False}),
        ("public_xp", {"cone": 6.0}),
        ("public_xp", {}),
    ],
)
def test_options_choose_what_they_say(database, tables, name, options):
    arguments = dict(options)
    if "cone" in options:
        arguments["cone"] = (CENTRE, options["cone"] * u.deg)
    found = database.query(build_query(name, **arguments))
    expected = expect(tables, name, **options)
    assert len(expected) > 5
    assert set(found["source_id"].tolist()) == expected
    assert len(found) == len(expected)


def test_redshift_ugc_rides_along_on_request(database, tables):
    _, galaxies, _ = tables
    cone = (190.0, 30.0, 3.0)
    without = database.query(build_query("cone", cone=cone))
    assert "redshift_ugc" not in without.colnames
    found = database.query(build_query("cone", cone=cone, with_ugc=True))
    assert len(found) == len(without)
    known = {int(row["source_id"]): row["redshift_ugc"] for row in galaxies}
    for row in found:
        expected = known.get(int(row["source_id"]), np.ma.masked)
        assert (row["redshift_ugc"] is np.ma.masked) == (expected is np.ma.masked)
        assert expected is np.ma.masked or row["redshift_ugc"] == expected
    assert "redshift_ugc" not in build_query("ugc_galaxies", with_ugc=False).partition("FROM")[0]


def test_a_limit_is_top(database):
    assert len(database.query(build_query("public_xp", limit=12))) == 12


@pytest.mark.parametrize("flag", ["boolean", "byte", "rows"])
def test_queries_of_dr4_join_the_tables_that_its_archive_has(flag, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with make_draft_archive(60, 20, flag=flag) as archive:
        settings = make_settings(archive)
        ask = {"release": "DR4", "settings": settings}
        public = set(archive.spectra.source_id.tolist())
        found = query_catalogue("public_xp", **ask)
        assert set(found["source_id"].tolist()) == public
        sky = archive.database.query("SELECT * FROM gaiadr4.all_source_astrometry")
        sky = SkyCoord(sky["ra"], sky["dec"], unit="deg"), np.array(sky["source_id"])
        near = sky[1][sky[0].separation(CENTRE) < 60 * u.deg]
        found = query_catalogue("cone", cone=(CENTRE, 60 * u.deg), public_xp=False, **ask)
        assert set(found["source_id"].tolist()) == set(near.tolist())
        assert np.isfinite(found["phot_bp_mean_mag"]).all()
        found = query_catalogue("cone", cone=(CENTRE, 60 * u.deg), **ask)
        assert set(found["source_id"].tolist()) == public & set(near.tolist())
        galaxies = archive.database.query("SELECT source_id FROM gaiadr4.galaxy_candidates")
        plain = {"with_ugc": False, "pure": False}
        found = query_catalogue("ugc_galaxies", **plain, **ask)
        assert set(found["source_id"].tolist()) == public & set(galaxies["source_id"].tolist())
        with pytest.raises(InputError, match=r"no column radius_sersic.*redshift_ugc.*pure"):
            build_query("ugc_galaxies", with_ugc=False, **ask)
        with pytest.raises(ArchiveError, match=r"qso_candidates.*TAP_SCHEMA"):
            build_query("quasar_candidates", **ask)
        schema = [r for r in archive.of("tap/sync") if "TAP_SCHEMA" in r.fields["QUERY"]]
        assert len(schema) == 1


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("galaxies", {}, "no query 'galaxies'; there are: brightness"),
        ("cone", {}, "needs cone"),
        ("brightness", {}, "needs magnitude"),
        ("public_xp", {"public_xp": False}, "needs public_xp"),
        ("cone", {"cone": (1, 2, 3), "pure": True}, "has no option 'pure'"),
        ("cone", {"cone": (1, 95, 3)}, "no position"),
        ("cone", {"cone": (1, 2, -3)}, "radius"),
        ("cone", {"cone": (1, 2)}, "must be"),
        ("cone", {"cone": (1, 2, 3 * u.kg)}, "no angle"),
        ("cone", {"cone": ("1); DROP", 2, 3)}, "no angle"),
        ("brightness", {"magnitude": (17, 15)}, "not brighter"),
        ("brightness", {"magnitude": (17, np.nan)}, "not brighter"),
        ("public_xp", {"limit": 0}, "limit"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, words):
    with pytest.raises(InputError, match=words):
        build_query(name, **options)


class NoSpectra:
    source_id = np.zeros(0, dtype=np.int64)


def test_queries_run_in_the_archive(tables):
    source, galaxies, quasars = tables
    extra = {"gaiadr3.galaxy_candidates": galaxies, "gaiadr3.qso_candidates": quasars}
    with GaiaArchiveDouble(NoSpectra(), source, extra) as archive:
        settings = ArchiveSettings(
            gaia_tap_url=archive.tap_url, gaia_data_url=archive.data_url, first_poll=0.02
        )
        found = query_catalogue("ugc_galaxies", settings=settings, cone=(190, 30, 5 * u.deg))
        assert set(found["source_id"].tolist()) == expect(tables, "ugc_galaxies", cone=5.0)
        assert found["source_id"].dtype == np.int64
        assert found.meta["query"].startswith("SELECT")
    with GaiaArchiveDouble(NoSpectra(), source) as archive:
        settings = ArchiveSettings(
            gaia_tap_url=archive.tap_url, gaia_data_url=archive.data_url, first_poll=0.02
        )
        with pytest.raises(ArchiveError, match="galaxy_candidates"):
            query_catalogue("ugc_galaxies", settings=settings)
