"""Distributions in qp, spectra in specutils, tables over SAMP: what the other side gets."""

import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from gaia_redshift import sample_spectra, sample_wavelengths, send_table, to_qp, to_specutils
from gaia_redshift.bridges import SampError, messages
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.readers.files import read_table
from gaia_redshift.spectra import BandSpectra, FluxVectors, XPSpectra
from gaia_redshift.tables import build_table, describe_provenance, write_table

IDS = np.array([2**62 + 1, 4295806720, 2**62 + 3], dtype=np.int64)  # floats would lose digits
EDGES = np.linspace(0.0, 0.6, 7)
LATER = 0.2
"""Seconds: PyVO's hub loses an answer that comes before it has noted the question."""


@pytest.fixture
def predictions():
    """Three sources, the second without a redshift; numbers that can be checked by hand."""
    pdf = np.array([[0, 2.5, 5, 2.5, 0, 0], [np.nan] * 6, [5, 5, 0, 0, 0, 0]])
    return build_table(
        IDS,
        [0.25, np.nan, 0.1],
        [0, 1, 64],
        lower=[0.164, np.nan, 0.032],
        upper=[0.336, np.nan, 0.168],
        std=[0.0764, np.nan, 0.0577],
        pdf=pdf,
        redshift_grid=EDGES,
        columns=Table({"ra": [1.5, 2.5, 3.5] * u.deg, "name": ["NGC 1", "Müller", ""]}),
        meta=describe_provenance(
            model_name="made by hand",
            model_version="1",
            model_sha256="ab" * 32,
            trained_on="nothing",
            grid=DEFAULT_GRID,
            release="DR3",
            prior="sdss",
        ),
    )


# --- qp ------------------------------------------------------------------------------------------


def test_qp_finds_the_medians_and_percentiles_of_the_table(predictions):
    pytest.importorskip("qp")
    ensemble = to_qp(predictions)
    assert ensemble.npdf == 2  # the masked row is left out
    np.testing.assert_allclose(ensemble.median().ravel(), [0.25, 0.1], atol=1e-6)
    np.testing.assert_allclose(
        ensemble.ppf([0.16, 0.84]), [[0.164, 0.336], [0.032, 0.168]], atol=1e-6
    )
    np.testing.assert_allclose(ensemble.cdf(0.6).ravel(), 1.0)
    np.testing.assert_allclose(ensemble.pdf(0.25).ravel(), [5, 0])
    for row, k in ((0, 0), (2, 1)):
        assert ensemble.ancil["row"][k] == row
        assert ensemble.ancil["source_id"][k] == IDS[row]
    assert ensemble.ancil["source_id"].dtype == np.int64
    assert ensemble.ancil["flags_cnn"].tolist() == [0, 64]
    np.testing.assert_allclose(ensemble.ancil["redshift_cnn_upper"], [0.336, 0.168], rtol=1e-6)


def test_a_qp_file_reads_back_with_ids(predictions, tmp_path):
    qp = pytest.importorskip("qp")
    ensemble = to_qp(predictions)
    ensemble.write_to(str(tmp_path / "z.hdf5"))
    again = qp.read(str(tmp_path / "z.hdf5"))
    np.testing.assert_array_equal(again.ancil["source_id"], IDS[[0, 2]])
    np.testing.assert_allclose(again.median().ravel(), [0.25, 0.1], atol=1e-6)
    assert int(again[1].ancil["source_id"]) == IDS[2]


def test_bins_may_be_given_where_the_table_lost_them(predictions):
    pytest.importorskip("qp")
    del predictions["redshift_cnn_pdf"].meta["redshift_grid"]
    with pytest.raises(InputError, match=r"does not say which bins.*grid="):
        to_qp(predictions)
    assert to_qp(predictions, grid=EDGES).median().ravel()[0] == pytest.approx(0.25)
    with pytest.raises(InputError, match="6 bins need 7 rising edges"):
        to_qp(predictions, grid=EDGES[:-1])
    with pytest.raises(InputError, match="rising"):
        to_qp(predictions, grid=EDGES[::-1])


def test_what_has_no_distributions_is_one_line(predictions):
    with pytest.raises(InputError, match="pdf=True"):
        to_qp(predictions["source_id", "redshift_cnn"])
    with pytest.raises(InputError, match="table of predictions, not list"):
        to_qp([1, 2])
    with pytest.raises(InputError, match="no row"):
        to_qp(predictions[1:2])
    pytest.importorskip("qp")
    broken = predictions.copy()
    broken["redshift_cnn_pdf"][0] = 0.0  # adds to nothing
    assert to_qp(broken).ancil["row"].tolist() == [2]


@pytest.mark.parametrize(
    ("library", "call"),
    [("qp", lambda table, vectors: to_qp(table)), ("specutils", lambda t, v: to_specutils(v))],
)
def test_a_missing_library_names_the_extra(monkeypatch, predictions, vectors, library, call):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install 'gaia-redshift\[{library}\]'"):
        call(predictions, vectors)


# --- files in between ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["z.ecsv", "z.ecsv.gz", "z.fits", "z.vot", "z.parquet", "z.h5"])
def test_predictions_survive_files_with_intervals_and_distributions(predictions, tmp_path, name):
    write_table(predictions, tmp_path / name)
    again = read_table(tmp_path / name)
    assert again.colnames == predictions.colnames
    assert dict(again.meta) == dict(predictions.meta)
    for column in predictions.colnames[:7]:
        old, new = predictions[column], again[column]
        assert new.dtype == old.dtype, column
        assert new.unit == old.unit, column
        assert new.info.description == old.info.description, column
        assert dict(new.info.meta) == dict(old.info.meta), column
        masks = [np.ma.getmaskarray(np.ma.asarray(values)) for values in (old, new)]
        np.testing.assert_array_equal(*masks, err_msg=column)
        np.testing.assert_array_equal(
            *(np.ma.filled(np.ma.asarray(values), -1) for values in (old, new)), err_msg=column
        )
    pytest.importorskip("qp")
    np.testing.assert_allclose(to_qp(again).median().ravel(), [0.25, 0.1], atol=1e-6)


def test_astropy_reads_them_without_this_package(predictions, tmp_path):
    """What ``Table.read`` alone finds; units and UCDs in FITS are for `read_table`."""
    for name in ("z.ecsv", "z.fits", "z.vot", "z.parquet", "z.h5"):
        write_table(predictions, tmp_path / name)
        table = Table.read(tmp_path / name)
        assert table["source_id"].tolist() == IDS.tolist(), name
        lower = np.ma.filled(np.ma.asarray(table["redshift_cnn_lower"]), np.nan)
        np.testing.assert_allclose(lower, [0.164, np.nan, 0.032], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(list(table["redshift_cnn_pdf"][2]), [5, 5, 0, 0, 0, 0])


# --- specutils -----------------------------------------------------------------------------------


@pytest.fixture
def spectra():
    rng = np.random.default_rng(5)
    bands = []
    for _ in range(2):
        coefficients = rng.normal(size=(3, 55))
        coefficients[:, 0] = 500
        bands.append(BandSpectra(coefficients, errors=np.full((3, 55), 0.5)))
    bands[0].n_coefficients[1] = 0  # no BP
    return XPSpectra(IDS, *bands, release="DR3")


@pytest.fixture
def vectors(spectra):
    return sample_spectra(spectra)


def test_specutils_gets_both_bands_with_axis_units_and_errors(spectra, vectors):
    specutils = pytest.importorskip("specutils")
    bands = to_specutils(vectors)
    assert isinstance(bands, specutils.SpectrumList)
    bp, rp = bands
    wavelength = sample_wavelengths()
    for band, samples, name in ((bp, slice(0, 80), "BP"), (rp, slice(80, None), "RP")):
        assert band.flux.unit == u.electron / u.s
        np.testing.assert_array_equal(band.flux.value, vectors.flux[:, samples])
        np.testing.assert_array_equal(band.uncertainty.array, vectors.flux_error[:, samples])
        assert band.uncertainty.uncertainty_type == "std"
        np.testing.assert_allclose(band.spectral_axis.to_value("nm"), wavelength[samples])
        assert band.mask.all(axis=1).tolist() == [False, True, False]
        assert band.meta["band"] == name
        assert band.meta["data_release"] == "DR3"
        np.testing.assert_array_equal(band.meta["source_id"], IDS)
        assert band.meta["flags"][1] != 0
    again = to_specutils(spectra)  # coefficients are sampled
    np.testing.assert_array_equal(again[1].flux, rp.flux)


def test_one_source_gives_spectra_of_one_dimension(vectors):
    pytest.importorskip("specutils")
    from specutils.analysis import line_flux

    bp, rp = to_specutils(vectors, row=2)
    assert (bp.shape, rp.shape) == ((80,), (106,))
    assert rp.meta["source_id"] == IDS[2]
    assert isinstance(rp.meta["source_id"], int)
    # Its own integral, against the trapezium rule on the same samples.
    x, y = sample_wavelengths()[80:], vectors.flux[2, 80:]
    flux = line_flux(rp)
    assert flux.unit == u.electron / u.s * u.nm
    edges = np.concatenate([[x[0]], 0.5 * (x[1:] + x[:-1]), [x[-1]]])
    edges[0] -= edges[1] - x[0]
    edges[-1] += x[-1] - edges[-2]
    assert flux.value == pytest.approx((y * np.diff(edges)).sum(), rel=1e-6)
    # In the source's own frame.
    rp.shift_spectrum_to(redshift=0.25)
    np.testing.assert_allclose(rp.spectral_axis.to_value("nm"), x * 1.25)


def test_as_many_sources_as_samples_and_no_errors():
    pytest.importorskip("specutils")
    flux = np.arange(80 * 186, dtype=float).reshape(80, 186)
    bp, rp = to_specutils(FluxVectors(np.arange(80), flux))
    np.testing.assert_array_equal(bp[3].flux.value, flux[3, :80])
    assert bp.spectral_axis_index == 1
    assert rp.uncertainty is None
    assert bp.meta["data_release"] == "unknown"


def test_rows_that_are_not_there(vectors):
    pytest.importorskip("specutils")
    assert to_specutils(vectors, row=-1)[0].meta["source_id"] == IDS[2]
    with pytest.raises(InputError, match="no row 3: there are 3"):
        to_specutils(vectors, row=3)
    with pytest.raises(InputError, match="no spectra"):
        to_specutils(vectors[:0])


# --- SAMP ----------------------------------------------------------------------------------------


@pytest.fixture
def samp(tmp_path, monkeypatch):
    """The library, looking for hubs nowhere but in this test's own home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("SAMP_HUB", raising=False)
    library = messages._import_samp()
    with library.conf.set_temp("use_internet", False), library.conf.set_temp("n_retries", 1):
        yield library


@pytest.fixture
def hub(samp):
    server = samp.SAMPHubServer(web_profile=False, mode="single", addr="127.0.0.1")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def receiver(samp, hub):
    """A program as TOPCAT is for SAMP: it loads what it is told to, then says that it did."""
    client = samp.SAMPIntegratedClient(name="TopCat", addr="127.0.0.1")
    client.connect()
    client.tables, client.urls, client.answer = [], [], {"samp.status": "samp.ok"}

    def load(private_key, sender_id, msg_id, mtype, params, extra):
        client.urls.append(params["url"])
        client.tables.append(Table.read(params["url"], format="votable", use_names_over_ids=True))
        client.tables[-1].meta["sent name"] = params["name"]
        if client.answer:
            time.sleep(LATER)
            client.reply(msg_id, {"samp.result": {}, **client.answer})

    client.bind_receive_call("table.load.votable", load)
    yield client
    client.disconnect()


def test_topcat_gets_the_table_and_nothing_is_left_behind(
    predictions, hub, receiver, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    assert send_table(predictions, name="my galaxies") == ["TopCat"]
    (table,) = receiver.tables
    assert table.meta["sent name"] == "my galaxies"
    assert table["source_id"].tolist() == IDS.tolist()
    assert table["source_id"].dtype == np.int64
    assert table["redshift_cnn"].mask.tolist() == [False, True, False]
    np.testing.assert_allclose(table["redshift_cnn"][[0, 2]], [0.25, 0.1], rtol=1e-6)
    assert table["redshift_cnn_lower"].meta["ucd"] == "src.redshift;stat.min"
    description = predictions["redshift_cnn"].description
    assert table["redshift_cnn"].description.split() == description.split()  # astropy wraps it
    assert table["ra"].unit == u.deg
    assert table["name"].tolist() == ["NGC 1", "Müller", ""]
    np.testing.assert_allclose(
        table["redshift_cnn_pdf"][2], np.ma.asarray(predictions["redshift_cnn_pdf"])[2]
    )
    assert sorted(tmp_path.iterdir()) == before  # the file is gone
    assert receiver.get_registered_clients() == ["cli#hub"]  # and so are we


def test_a_recipient_is_named_in_any_case_and_others_hear_nothing(predictions, samp, receiver):
    other = samp.SAMPIntegratedClient(name="Aladin", addr="127.0.0.1")
    other.connect()
    heard = []

    def load(private_key, sender_id, msg_id, mtype, params, extra):
        heard.append(mtype)
        time.sleep(LATER)
        other.reply(msg_id, {"samp.status": "samp.warning", "samp.result": {}})

    other.bind_receive_call("table.load.votable", load)
    try:
        assert send_table(predictions, recipient="topcat") == ["TopCat"]
        assert not heard
        assert sorted(send_table(predictions)) == ["Aladin", "TopCat"]
        assert len(heard) == 1
        receiver.answer = {"samp.status": "samp.error", "samp.error": {"samp.errortxt": "no\nroom"}}
        with pytest.raises(SampError, match=r"TopCat did not load the table: no room \(Aladin"):
            send_table(predictions)
        with pytest.raises(SampError, match=r"no program 'ds9'.*Aladin, TopCat"):
            send_table(predictions, recipient="ds9")
    finally:
        other.disconnect()


def test_without_hub_or_program_the_error_says_what_to_do(predictions, samp, tmp_path):
    with pytest.raises(SampError, match="no SAMP hub can be reached: start TOPCAT") as caught:
        send_table(predictions)
    assert "\n" not in str(caught.value)
    # A lock file that a crashed hub left.
    (tmp_path / ".samp").write_text(
        "samp.secret=abc\nsamp.hub.xmlrpc.url=http://127.0.0.1:9/\nsamp.profile.version=1.3\n"
    )
    with pytest.raises(SampError, match="no SAMP hub"):
        send_table(predictions)


def test_a_hub_alone_takes_no_tables(predictions, hub):
    with pytest.raises(SampError, match="no program that is connected to the SAMP hub takes"):
        send_table(predictions)


def test_a_program_that_never_answers_is_not_waited_for(predictions, receiver, monkeypatch):
    receiver.answer = None
    begin = time.monotonic()
    with pytest.raises(SampError, match="TopCat did not load the table"):
        send_table(predictions, timeout=1)
    assert time.monotonic() - begin < 60
    assert not Path(receiver.urls[0].removeprefix("file://")).exists()
    assert receiver.get_registered_clients() == ["cli#hub"]


def test_a_hub_that_hangs_is_not_waited_for(predictions, samp, tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(messages, "HUB_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        port = silent.getsockname()[1]
        (tmp_path / ".samp").write_text(
            f"samp.secret=abc\nsamp.hub.xmlrpc.url=http://127.0.0.1:{port}/\n"
        )
        with pytest.raises(SampError, match=r"no SAMP hub.*no answer within 0\.5 s"):
            send_table(predictions)


def test_an_older_pyvo_leaves_astropys_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvo.samp", types.ModuleType("pyvo.samp"))
    try:
        library = messages._import_samp()
    except ImportError:
        pytest.skip("this astropy has no SAMP any more")
    assert library.__name__ == "astropy.samp"
    assert hasattr(library, "SAMPHubProxy")


def test_what_is_no_table_is_refused_before_any_hub_is_asked():
    with pytest.raises(InputError, match="takes a table, not dict"):
        send_table({"source_id": [1]})
    with pytest.raises(InputError, match="positive"):
        send_table(Table(), timeout=0)


def test_sending_leaves_warning_filters_alone(predictions, receiver):
    before = list(warnings.filters)
    send_table(predictions)
    assert warnings.filters == before


def test_the_command_sends_a_file(predictions, receiver, tmp_path, capsys):
    write_table(predictions, tmp_path / "z.ecsv")
    assert main(["send", str(tmp_path / "z.ecsv"), "--to", "topcat"]) == 0
    assert capsys.readouterr().out == f"{len(predictions)} rows sent to TopCat\n"
    assert len(receiver.tables[0]) == len(predictions)
    assert main(["send", str(tmp_path / "none.ecsv")]) == 1
    assert "no such file" in capsys.readouterr().err
