"""The tests' own database, which many other tests lean on, against NumPy and astropy."""

import io
import threading

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from doubles.adql import AdqlDatabase, AdqlError, write_result


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(2)
    n = 4000
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[:100] = rng.uniform(89, 90, 100)
    ra = rng.uniform(0, 360, n)
    ra[100:300], dec[100:300] = rng.uniform(-1, 1, 200) % 360, rng.uniform(-1, 1, 200)
    table = Table(
        {
            "source_id": rng.integers(2**60, 2**62, n),
            "ra": ra,
            "dec": dec,
            "has_xp_continuous": rng.random(n) < 0.5,
            "phot_g_mean_mag": rng.uniform(14, 21, n).astype(np.float32),
        }
    )
    table["ra"].unit = "deg"
    hidden = rng.random(n) < 0.3
    table["label"] = MaskedColumn(np.where(hidden, "", "galaxy"), mask=hidden)
    table["other_id"] = MaskedColumn(table["source_id"].data, mask=hidden)
    return table


@pytest.fixture(scope="module")
def database(table):
    database = AdqlDatabase({"gaiadr3.gaia_source": table})
    yield database
    database.close()


@pytest.mark.parametrize("centre", [(0.2, 0.3), (120.0, 89.8), (200.0, -40.0)])
@pytest.mark.parametrize(
    "where",
    [
        "1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {ra}, {dec}, 2))",
        "CONTAINS(POINT(ra, dec), CIRCLE(POINT({ra}, {dec}), 2)) = 1",
        "DISTANCE(POINT(ra, dec), POINT('ICRS', {ra}, {dec})) <= 2",
        "2 >= DISTANCE({ra}, {dec}, ra, dec)",
        "INTERSECTS(CIRCLE({ra}, {dec}, 2), POINT(ra, dec)) = 1",
        "NOT 0 = CONTAINS(POINT(ra, dec), CIRCLE({ra}, {dec}, 2))",
        "CONTAINS(POINT(ra, dec), CIRCLE({ra}, {dec}, 2)) > 0",
    ],
)
def test_circles(database, table, centre, where):
    ra, dec = centre
    condition = where.format(ra=ra, dec=dec)
    found = database.query(f"SELECT source_id FROM gaiadr3.gaia_source WHERE {condition}")
    here = SkyCoord(table["ra"], table["dec"], unit="deg")
    near = here.separation(SkyCoord(ra, dec, unit="deg")).deg <= 2
    assert set(found["source_id"]) == set(table["source_id"][near])


def test_values_are_exact(database, table):
    found = database.query("SELECT * FROM gaiadr3.gaia_source")
    order, expected = np.argsort(found["source_id"]), np.argsort(table["source_id"])
    for name in table.colnames:
        assert found[name].dtype.kind == table[name].dtype.kind
        assert found[name][order].tolist() == table[name][expected].tolist(), name
    assert found["ra"].unit == "deg"


def test_uploads_joins_top_and_maxrec(database, table):
    ids = Table({"id": table["source_id"][:50], "row": np.arange(50)})
    found = database.query(
        "SELECT u.row, g.source_id FROM TAP_UPLOAD.mine AS u"
        " JOIN gaiadr3.gaia_source AS g ON g.source_id = u.id ORDER BY u.row",
        {"mine": ids},
    )
    assert found["source_id"].tolist() == ids["id"].tolist()
    top = database.query("SELECT TOP 7 source_id FROM gaiadr3.gaia_source")
    assert len(top) == 7
    assert top.meta["QUERY_STATUS"] == "OK"
    cut = database.query("SELECT source_id FROM gaiadr3.gaia_source", maxrec=5)
    assert len(cut) == 5
    assert cut.meta["QUERY_STATUS"] == "OVERFLOW"
    none = database.query("SELECT 5/60 AS whole, 5./60. AS part FROM tap_upload.u", {"u": ids[:1]})
    assert (none["whole"][0], none["part"][0]) == (0, 5 / 60)


@pytest.mark.parametrize(
    ("adql", "words"),
    [
        ("SELECT * FROM gaiadr3.gaia_source LIMIT 5", "Cannot parse query"),
        ("SELEC * FROM gaiadr3.gaia_source", "Cannot parse query"),
        ("DELETE FROM gaiadr3.gaia_source", "Cannot parse query"),
        ("SELECT 1; SELECT 2", "Cannot parse query"),
        ("SELECT ra AS distance FROM gaiadr3.gaia_source", "Cannot parse query"),
        ("SELECT nonsense FROM gaiadr3.gaia_source", "unresolved identifiers: nonsense"),
        ("SELECT * FROM gaiadr3.nothing", 'Unknown table "gaiadr3.nothing"'),
        ("SELECT * FROM tap_upload.nothing", "Unknown table"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Unknown table"),
    ],
)
def test_what_the_archive_refuses_is_refused(database, adql, words):
    with pytest.raises(AdqlError, match=words):
        database.query(adql)


def test_threads(database, table):
    wrong = []

    def work(number):
        ids = Table({"id": table["source_id"][number : number + 1]})
        for _ in range(10):
            found = database.query(
                "SELECT g.source_id FROM TAP_UPLOAD.t AS t JOIN gaiadr3.gaia_source AS g"
                " ON g.source_id = t.id",
                {"t": ids},
            )
            if found["source_id"].tolist() != ids["id"].tolist():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "form", ["votable", "votable_plain", "votable_gzip", "csv", "fits", "json"]
)
def test_astroquery_reads_every_format(database, form):
    from astroquery.utils.tap.xmlparser.utils import read_http_response

    result = database.query("SELECT TOP 20 * FROM gaiadr3.gaia_source ORDER BY source_id")
    _, body = write_result(result, form)
    read = read_http_response(io.BytesIO(body), form)
    assert read["source_id"].tolist() == result["source_id"].tolist()
    assert read["other_id"].tolist() == result["other_id"].tolist()
    assert read["ra"].tolist() == result["ra"].tolist()
    with pytest.raises(AdqlError, match="formatter"):
        write_result(result, "xlsx")
