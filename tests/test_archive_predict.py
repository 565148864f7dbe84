"""From source ids to redshifts, in Python and on the command line; what fetching costs."""

import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from archive_samples import FIRST_ID, make_archive, make_settings, make_sources, make_spectra
from astropy.table import Table
from doubles.gaia_archive import Fault, GaiaArchiveDouble

from gaia_redshift import (
    predict_redshift,
    predict_table,
    read_spectra,
    read_table,
    sample_spectra,
)
from gaia_redshift.archive import open_stream
from gaia_redshift.cli import main
from gaia_redshift.errors import GaiaRedshiftWarning, InputError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import DEFAULT_GRID


class Mean:
    """A model that is quick to load: a number that depends on every flux."""

    name, version, sha256 = "mean", "1", "0" * 64
    grid, uses_errors = DEFAULT_GRID, False

    def __init__(self, **manifest):
        self.manifest = {"trained_on": "nothing", **manifest}

    def predict(self, flux, flux_error=None):
        weights = np.linspace(1, 2, flux.shape[1])
        redshift = np.abs(flux @ weights / flux.sum(axis=1)) % 1
        return SimpleNamespace(redshift=redshift, flags=None, lower=None, upper=None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GAIA_REDSHIFT_CACHE_DIR", raising=False)


@pytest.fixture
def archive(monkeypatch):
    spectra = replace(make_spectra(30, k=55), release="DR3")
    for band in (spectra.bp, spectra.rp):
        band.coefficients[:, 0] = np.linspace(3e4, 9e4, 30)  # the first function is positive
    with GaiaArchiveDouble(spectra, make_sources(spectra, n_without=6)) as archive:
        monkeypatch.setenv("GAIA_REDSHIFT_TAP_URL", archive.tap_url)
        monkeypatch.setenv("GAIA_REDSHIFT_DATA_URL", archive.data_url)
        yield archive


def options(archive, **more):
    return {"settings": make_settings(archive), **more}


def test_ids_give_the_redshifts_of_their_spectra(archive):
    spectra = archive.spectra
    direct = predict_table(spectra, model=Mean())
    asked = [int(spectra.source_id[4]), FIRST_ID, 12345, int(spectra.source_id[2]), FIRST_ID]
    table = predict_table(asked, model=Mean(), archive=options(archive))
    assert table["source_id"].tolist() == asked
    expected = direct["redshift_cnn"][[4, 2]]
    np.testing.assert_allclose(table["redshift_cnn"][[0, 3]], expected, rtol=1e-6)
    assert table["redshift_cnn"].mask.tolist() == [False, True, True, False, True]
    no_xp = int(QualityFlag.NO_PUBLIC_XP | QualityFlag.DUPLICATE_SOURCE_ID)
    assert table["flags_cnn"].tolist() == [
        *(0, no_xp, int(QualityFlag.UNKNOWN_SOURCE_ID), 0, no_xp)
    ]
    assert table.meta["data_release"] == "DR3"
    assert "5 sources asked for: 2 spectrum, 2 no public XP" in table.meta["archive_account"]
    assert "Gaia DR3 archive" in table.meta["inputs"][0]


def test_queries_tables_and_positions_carry_their_columns(archive):
    adql = "SELECT TOP 5 source_id, ra, dec FROM gaiadr3.gaia_source ORDER BY source_id DESC"
    table = predict_table(adql, model=Mean(), keep="ra", archive=options(archive))
    assert len(table) == 5
    assert table.colnames == ["source_id", "redshift_cnn", "flags_cnn", "ra"]
    mine = Table({"ra": table["ra"], "dec": archive.database.query(adql)["dec"], "n": range(5)})
    found = predict_table(mine, model=Mean(), keep=["n"], archive=options(archive))
    assert found["source_id"].tolist() == table["source_id"].tolist()
    np.testing.assert_array_equal(found["redshift_cnn"], table["redshift_cnn"])
    assert found["n"].tolist() == list(range(5))
    frame = mine.to_pandas().assign(source_id=np.asarray(table["source_id"]))
    again = predict_table(frame, model=Mean(), keep="all", archive=options(archive))
    assert again["source_id"].tolist() == table["source_id"].tolist()


def test_tables_with_spectra_are_never_fetched(archive):
    spectra = archive.spectra
    table = {
        "source_id": spectra.source_id,
        "ra": np.zeros(30),
        "bp_coefficients": spectra.bp.coefficients,
        "rp_coefficients": spectra.rp.coefficients,
    }
    predict_table(table, model=Mean(), archive=options(archive))
    assert archive.requests == []
    with pytest.raises(InputError, match="sampled spectra"):
        predict_table({"source_id": [1], "flux": [[1.0, 2.0]]}, model=Mean())
    with pytest.raises(InputError, match="fetch_spectra fetches them"):
        read_spectra([5937083312263887616])


def test_fetched_rows_are_in_the_order_asked_for(tmp_path, monkeypatch, capsys):
    """The first 2,500 have no spectrum; the file's columns come from those that do."""
    monkeypatch.chdir(tmp_path)
    with make_archive(n=6, n_without=2500) as archive:
        monkeypatch.setenv("GAIA_REDSHIFT_TAP_URL", archive.tap_url)
        monkeypatch.setenv("GAIA_REDSHIFT_DATA_URL", archive.data_url)
        ids = np.concatenate([FIRST_ID + 2 * np.arange(2500), archive.spectra.source_id])
        np.savetxt("ids.txt", ids, fmt="%d")
        assert main(["fetch", "--ids", "ids.txt", "-o", "spectra.parquet"]) == 0
    found = read_spectra("spectra.parquet")
    assert found.source_id.tolist() == ids.tolist()
    assert found.bp.n_coefficients.any(axis=None)


def test_a_model_of_one_release_is_not_used_on_another(archive):
    ids = archive.spectra.source_id[:3]
    with pytest.raises(InputError, match=r"mean is for spectra of DR3, these are of DR4"):
        predict_table(ids, model=Mean(), archive=options(archive, release="DR4"))
    assert archive.requests == [], "told before anything is fetched"
    with pytest.raises(InputError, match=r"is for spectra of DR4, these are of DR3.*any_release"):
        predict_table(archive.spectra, model=Mean(data_release="DR4"))
    vectors = sample_spectra(replace(archive.spectra, release="DR4"))
    with pytest.raises(InputError, match=r"mean is for spectra of DR3, these are of DR4"):
        predict_redshift(vectors, model=Mean())
    assert len(predict_redshift(vectors, model=Mean(), any_release=True)) == len(vectors)
    table = predict_table(
        ids, model=Mean(data_release="DR4"), any_release=True, archive=options(archive)
    )
    assert not table["redshift_cnn"].mask.any()


def test_the_commands(archive, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = archive.spectra.source_id[:4].tolist()
    (tmp_path / "ids.csv").write_text(
        "source_id,name\n" + "\n".join(f"{i},n{k}" for k, i in enumerate([*ids, FIRST_ID, 7]))
    )
    command = ["fetch", "--ids", "ids.csv", "-o", "s.parquet", "--account", "a.csv"]
    assert main([*command, "--keep", "name"]) == 0
    said = capsys.readouterr()
    assert "6 sources asked for: 4 spectrum, 1 no public XP, 1 unknown id: s.parquet" in said.out
    spectra = read_spectra(tmp_path / "s.parquet", keep="name")
    assert spectra.source_id.tolist() == [*ids, FIRST_ID, 7]
    assert list(spectra.columns["name"][:2]) == ["n0", "n1"]
    truth = archive.spectra.bp.coefficients[:4]
    np.testing.assert_array_equal(spectra.bp.coefficients[:4], truth)
    account = read_table(tmp_path / "a.csv")
    assert list(account["status"]) == ["spectrum"] * 4 + ["no public XP", "unknown id"]

    n_before = len(archive.of("data-server"))
    assert main(["predict", "--ids", "ids.csv", "--offline", "-o", "z.ecsv"]) == 0
    assert len(archive.of("data-server")) == n_before
    table = read_table(tmp_path / "z.ecsv")
    assert table["redshift_cnn"].mask.tolist() == [False] * 4 + [True] * 2
    assert "4 with a redshift" in capsys.readouterr().err

    query = tmp_path / "q.adql"
    query.write_text("SELECT TOP 2 source_id FROM gaiadr3.gaia_source ORDER BY source_id DESC")
    assert main(["predict", str(ids[0]), "--adql", f"@{query}", "--offline"]) == 1
    assert "not possible when offline" in capsys.readouterr().err
    assert main(["predict", str(ids[0]), "--adql", f"@{query}"]) == 0
    assert "3 sources" in capsys.readouterr().err

    assert main(["cache", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "gaia_redshift")
    assert main(["cache"]) == 0
    assert "spectra, 2 sources known to have none" in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0
    assert main(["cache", "info"]) == 0
    assert "nothing is kept yet" in capsys.readouterr().out


def test_the_commands_tell_what_failed(archive, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = [str(i) for i in archive.spectra.source_id[:3]]
    assert main(["fetch", *ids, "-o", "s.fits", "--offline"]) == 1
    said = capsys.readouterr()
    assert "3 sources could not be fetched" in said.err
    assert main(["fetch", "-o", "s.fits"]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["fetch", "nothing.csv", "-o", "t.fits"]) == 1
    assert "--ids" in capsys.readouterr().err
    archive.faults.append(Fault("html", times=10))
    assert main(["fetch", *ids, "-o", "t.fits"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "maintenance" in said.err
    assert not (tmp_path / "t.fits").exists()
    assert main(["predict", *ids, "--no-cache", "--offline"]) == 1
    assert "--no-cache goes neither" in capsys.readouterr().err
    assert main(["predict", "--adql", "DROP TABLE x"]) == 1
    assert "begins with SELECT" in capsys.readouterr().err


def test_dr4_on_the_command_line_asks_for_an_override(archive, capsys):
    one = str(archive.spectra.source_id[0])
    assert main(["predict", one, "--release", "DR4"]) == 1
    assert "--any-release" in capsys.readouterr().err
    with pytest.warns(GaiaRedshiftWarning, match="are a draft"):
        open_stream([int(one)], release="DR4", settings=make_settings(archive))


# --- what it costs ------------------------------------------------------------------------------


def fetch_all(archive, ids, tmp_path, chunk_size):
    settings = make_settings(archive, chunk_size=chunk_size)
    stream = open_stream(ids, settings=settings, cache=tmp_path)
    n = sum(len(block) for block in stream.blocks(8192))
    assert n == len(ids)
    assert stream.account.complete


def test_memory_does_not_grow_with_the_number_of_chunks(tmp_path):
    """Twenty-four chunks need little more than four; kept, they would need thrice as much."""
    peaks = []
    with make_archive(n=2400, n_without=0, k=30) as archive:
        ids = archive.spectra.source_id
        fetch_all(archive, ids[:100], tmp_path / "first", 100)  # imports
        for n in (400, 2400):
            tracemalloc.start()
            fetch_all(archive, ids[:n], tmp_path / str(n), 100)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.7 * peaks[0], peaks
