"""The double of the archive answers in the archive's form, as astroquery's test data show it."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archive_samples import make_archive, make_spectra
from astropy.io import fits
from astropy.io.votable import parse
from doubles.gaia_archive import OLD_WORDS
from doubles.gaia_products import COLUMNS, pack_spectra

from gaia_redshift.archive import ArchiveSettings, open_gaia

SOURCE = "5937083312263887616"


@pytest.fixture(scope="module")
def genuine():
    """The products of one source as the archive sent them, which astroquery carries."""
    from gaia_redshift.archive.client import import_astroquery

    import_astroquery()
    import astroquery.gaia

    folder = Path(astroquery.gaia.__file__).parent / "tests" / "data"
    if not folder.is_dir():
        pytest.skip("astroquery is installed without its tests")

    def read(form):
        path = folder / f"gaia_dr3_source_id_{SOURCE}_dl_products_{form}.zip"
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.startswith("XP_CONTINUOUS"))
            return name, archive.read(name)

    return read


def pack(form, structure="INDIVIDUAL", n=1):
    spectra = make_spectra(n, k=55, first=int(SOURCE) - 1)
    body = pack_spectra(spectra, structure, form, "Gaia DR3", "XP_CONTINUOUS")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        name = archive.namelist()[0]
        return name, archive.read(name)


def test_fits_has_the_names_types_and_order_of_the_archive(genuine):
    (name, content), (our_name, ours) = genuine("fits"), pack("fits")
    assert our_name == name
    with fits.open(io.BytesIO(content)) as real, fits.open(io.BytesIO(ours)) as made:
        assert made[1].columns.names == real[1].columns.names
        assert made[1].columns.formats == real[1].columns.formats
        for key in ("NAXIS1", "NAXIS2", "PCOUNT", "TFIELDS"):
            assert made[1].header[key] == real[1].header[key]


def test_csv_has_the_header_of_the_archive(genuine):
    (name, content), (our_name, ours) = genuine("csv"), pack("csv")
    assert our_name == name
    assert ours.split(b"\n")[0] == content.split(b"\n")[0].rstrip(b"\r")
    assert ours.count(b'"(') == content.count(b'"(') == 6


def test_votable_has_the_fields_of_the_archive(genuine):
    (name, content), (our_name, ours) = genuine("vot"), pack("votable")
    assert our_name == name
    real, made = (parse(io.BytesIO(c), verify="ignore").get_first_table() for c in (content, ours))
    described = [[(f.name, f.datatype, f.arraysize) for f in t.fields] for t in (made, real)]
    assert described[0] == described[1]


def test_raw_is_one_file_with_a_row_a_source():
    name, content = pack("fits", "RAW", n=3)
    assert name == "XP_CONTINUOUS_RAW.fits"
    with fits.open(io.BytesIO(content)) as made:
        assert len(made[1].data) == 3
        spectra = make_spectra(3, k=55, first=int(SOURCE) - 1)
        np.testing.assert_array_equal(
            made[1].data["bp_coefficients"][2], spectra.bp.coefficients[2]
        )
    assert len(COLUMNS) == 26


def test_astroquery_itself_can_use_the_double(tmp_path, monkeypatch):
    """Its unchanged client, but for time-outs: sync, async, tables, DataLink."""
    monkeypatch.chdir(tmp_path)  # its load_data writes there
    with make_archive(n=5, n_without=2, k=55, structures=OLD_WORDS) as archive:
        gaia = open_gaia(settings=ArchiveSettings(archive.tap_url, archive.data_url, timeout=10))
        query = "SELECT source_id FROM gaiadr3.gaia_source ORDER BY source_id"
        ids = gaia.launch_job(query).get_results()["source_id"]
        assert sorted(ids) == sorted(archive.database.query(query)["source_id"])
        assert len(gaia.launch_job_async(query).get_results()) == 7
        table = gaia.load_table("gaiadr3.gaia_source")
        assert "has_xp_continuous" in [column.name for column in table.columns]
        found = gaia.load_data(
            [int(i) for i in ids],
            data_release="Gaia DR3",
            retrieval_type="XP_CONTINUOUS",
            data_structure="RAW",
            format="fits",
        )
        assert list(found) == ["XP_CONTINUOUS_RAW.fits"]
        assert len(found["XP_CONTINUOUS_RAW.fits"][0]) == 5


def test_a_validator_would_find_the_basic_documents():
    import urllib.request

    with make_archive(n=2, n_without=1) as archive:
        for name in ("capabilities", "tables", "availability"):
            with urllib.request.urlopen(f"{archive.tap_url}/{name}", timeout=10) as answer:
                assert answer.read().startswith((b"<?xml", b"<vod:tableset"))
