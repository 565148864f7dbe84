"""The TAP server of the integration tier, asked through pyvo: it does what the rest relies on."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from integration.catalogue import separation

GAIA = "gaiadr3.gaia_source"
N_ROWS = 6_000


def as_array(column, dtype=None):
    """Values of a result column with NaN where it is masked."""
    values = np.ma.asarray(column)
    if values.dtype.kind == "f":
        values = values.filled(np.nan)
    assert not np.ma.is_masked(values)
    return np.asarray(values, dtype=dtype)


def by_id(rows, name="source_id"):
    """Order of the rows by id; ids must be exact integers."""
    ids = as_array(rows[name])
    assert ids.dtype == np.int64
    return np.argsort(ids)


def test_its_tables_and_columns_are_those_of_the_made_up_catalogue(service, catalogue):
    tables = service.tables
    for name, columns in catalogue.tables.items():
        described = {column.name: column for column in tables[name].columns}
        assert list(columns) == list(described)
        for column in described.values():
            assert column.description
            assert column.ucd
    ids = {column.name: column for column in tables[GAIA].columns}["source_id"]
    assert ids.datatype.content.lower() in ("bigint", "long")


@pytest.mark.parametrize("table", [GAIA, "gaiadr3.galaxy_candidates", "gaiadr3.qso_candidates"])
def test_sync_query_returns_every_row_exactly(service, catalogue, table):
    truth = catalogue.tables[table]
    rows = service.run_sync(f"SELECT * FROM {table}", maxrec=20_000).to_table()
    assert len(rows) == len(truth["source_id"])
    order, expected_order = by_id(rows), np.argsort(truth["source_id"])
    for name, values in truth.items():
        if values.dtype.kind == "U":
            found = [None if x is np.ma.masked or x == "" else str(x) for x in rows[name][order]]
            assert found == [x or None for x in values[expected_order].tolist()], name
        else:
            np.testing.assert_array_equal(as_array(rows[name])[order], values[expected_order], name)


def test_truncated_answer_is_announced(service):
    whole = service.run_sync("SELECT TOP 100 source_id FROM gaiadr3.gaia_source", maxrec=101)
    cut = service.run_sync(f"SELECT source_id FROM {GAIA}", maxrec=100)
    assert len(whole) == len(cut) == 100
    assert (whole.query_status, cut.query_status) == ("OK", "OVERFLOW")


def test_async_job_runs_and_can_be_deleted(service, catalogue):
    import pyvo

    job = service.submit_job(f"SELECT source_id, ra FROM {GAIA} WHERE phot_g_mean_mag < 18")
    assert job.phase == "PENDING"
    job.run().wait(phases=["COMPLETED", "ERROR", "ABORTED"], timeout=120)
    assert job.phase == "COMPLETED"
    rows = job.fetch_result().to_table()
    truth = catalogue.tables[GAIA]
    bright = truth["source_id"][truth["phot_g_mean_mag"] < 18]
    assert set(rows["source_id"].tolist()) == set(bright.tolist())
    job.delete()
    with pytest.raises(pyvo.dal.DALServiceError):
        _ = job.phase


def test_malformed_query_is_refused_in_words(service):
    import pyvo

    with pytest.raises(pyvo.dal.DALQueryError, match=r"(?i)parse|syntax|expected"):
        service.run_sync(f"SELEKT source_id FROM {GAIA}")
    job = service.submit_job("SELECT no_such_column FROM gaiadr3.gaia_source")
    try:
        job.run().wait(phases=["COMPLETED", "ERROR", "ABORTED"], timeout=120)
        assert job.phase == "ERROR"
        with pytest.raises(pyvo.dal.DALQueryError, match="no_such_column"):
            job.raise_if_error()
    finally:
        job.delete()


@pytest.mark.parametrize("mode", ["run_sync", "run_async"])
def test_upload_of_6000_ids_returns_each_row(service, catalogue, mode):
    truth = catalogue.tables[GAIA]
    known = truth["source_id"][: N_ROWS - 100]
    unknown = truth["source_id"][:100] + 1
    ids = np.concatenate([known, unknown])
    upload = Table({"row_number": np.arange(N_ROWS, dtype=np.int32), "source_id": ids})
    query = (
        "SELECT u.row_number, u.source_id, g.has_xp_continuous, g.phot_g_mean_mag"
        f" FROM TAP_UPLOAD.ids AS u LEFT OUTER JOIN {GAIA} AS g ON g.source_id = u.source_id"
    )
    rows = getattr(service, mode)(query, uploads={"ids": upload}, maxrec=20_000).to_table()
    assert len(rows) == N_ROWS
    rows.sort("row_number")
    np.testing.assert_array_equal(rows["source_id"], ids)
    missing = np.ma.getmaskarray(np.ma.asarray(rows["has_xp_continuous"]))
    np.testing.assert_array_equal(missing, np.arange(N_ROWS) >= len(known))
    np.testing.assert_array_equal(
        np.asarray(rows["has_xp_continuous"][~missing], bool),
        truth["has_xp_continuous"][: len(known)],
    )


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(0.0, 0.0, 2.0), (359.99, 3.0, 0.5), (123.0, 89.5, 3.0), (0.0, 90.0, 1.0), (200.0, -40.0, 10)],
    ids=["across-zero", "across-zero-small", "near-pole", "pole", "south"],
)
def test_cone_holds_the_sources_within_its_radius(service, catalogue, ra, dec, radius):
    truth = catalogue.tables[GAIA]
    distance = separation(truth["ra"], truth["dec"], np.array([ra]), np.array([dec]))
    expected = truth["source_id"][distance <= radius]
    assert 5 < len(expected) < 5000
    rows = service.run_sync(
        f"SELECT source_id, DISTANCE(POINT({ra}, {dec}), POINT(ra, dec)) AS angle FROM {GAIA}"
        f" WHERE 1 = CONTAINS(POINT(ra, dec), CIRCLE({ra}, {dec}, {radius}))"
    ).to_table()
    assert set(rows["source_id"].tolist()) == set(expected.tolist())
    order, expected_order = by_id(rows), np.argsort(expected)
    np.testing.assert_allclose(
        as_array(rows["angle"])[order], distance[distance <= radius][expected_order], atol=1e-9
    )


def test_cross_match_of_6000_uploaded_positions(service, catalogue):
    truth = catalogue.tables[GAIA]
    upload = Table({name: truth[name][:N_ROWS] for name in ("source_id", "ra", "dec")})
    rows = service.run_async(
        "SELECT u.source_id, s.objid, s.zsp,"
        " DISTANCE(POINT(u.ra, u.dec), POINT(s.ra_icrs, s.de_icrs)) * 3600 AS separation"
        " FROM TAP_UPLOAD.mine AS u JOIN sdss.sdss16 AS s"
        " ON 1 = CONTAINS(POINT(s.ra_icrs, s.de_icrs), CIRCLE(u.ra, u.dec, 1.0 / 3600))",
        uploads={"mine": upload},
        maxrec=20_000,
    ).to_table()
    nearest: dict[int, tuple[float, int]] = {}
    for source, target, arcsec in rows.iterrows("source_id", "objid", "separation"):
        nearest[int(source)] = min(nearest.get(int(source), (9.0, 0)), (float(arcsec), int(target)))
    asked = truth["source_id"][:N_ROWS].tolist()
    expected = {i: catalogue.sdss_of[i] for i in asked if i in catalogue.sdss_of}
    assert 4_500 < len(expected) < N_ROWS
    assert {source: target for source, (_, target) in nearest.items()} == expected
    assert len(rows) == len(expected) + len(catalogue.doubled & set(asked))
    assert 0 < max(arcsec for arcsec, _ in nearest.values()) <= 0.5 + 1e-6
