"""What cannot work is told at once, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import time

import pytest
from astropy.table import Table
from test_scale import make_spectra

from gaia_redshift import write_spectra, write_table
from gaia_redshift.archive import failures
from gaia_redshift.archive.jobs import run_query
from gaia_redshift.archive.settings import ArchiveSettings
from gaia_redshift.cli import main
from gaia_redshift.errors import ArchiveError


@pytest.fixture
def spectra(tmp_path):
    path = tmp_path / "inputs" / "a.csv"
    path.parent.mkdir()
    write_spectra(make_spectra(4, errors=False), path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "SPECTRA", "-o", "OUT"], "no column 'redshift_true'"),
        (["evaluate", "SPECTRA", "--truth", "nope", "-o", "OUT"], "no column 'nope'"),
        (["train", "SPECTRA", "-o", "OUT"], "no column 'redshift_true'"),
        (["train", "SPECTRA", "--truth", "nope", "-o", "OUT"], "no column 'nope'"),
        (["train", "nowhere.parquet", "-o", "OUT"], "no such file"),
        (["predict", "SPECTRA", "--keep", "nope", "-o", "OUT.fits"], "no column 'nope'"),
        (["dataset", "SPECTRA", "--truth", "nope", "-o", "OUT.parquet"], "no column 'nope'"),
    ],
)
def test_columns_that_are_not_there_are_told_before_any_work(
    tmp_path, spectra, monkeypatch, capsys, words, message
):
    def refuse(*_, **__):
        pytest.fail("the work had begun")

    if words[0] == "evaluate":
        monkeypatch.setattr("gaia_redshift.predict.load_for_prediction", refuse)
    monkeypatch.setattr("gaia_redshift.train.training.import_keras_for_training", refuse)
    out = tmp_path / "outputs"
    out.mkdir()
    words = [w.replace("SPECTRA", str(spectra)).replace("OUT", str(out / "new")) for w in words]
    assert main(words) == 1
    assert message in capsys.readouterr().err
    assert list(out.iterdir()) == []
    assert [path.name for path in spectra.parent.iterdir()] == ["a.csv"]


def test_a_name_that_is_not_found_is_told_at_once_and_given_up_soon(monkeypatch, caplog):
    def refuse(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(failures, "LOOK_UP", 0.3)
    settings = ArchiveSettings(gaia_tap_url="https://nowhere.invalid/tap", first_wait=0.1)
    start = time.monotonic()
    with pytest.raises(ArchiveError, match=r"nowhere\.invalid cannot be found.*within 0\.3 s"):
        run_query("SELECT 1", settings=settings)
    assert time.monotonic() - start < 20
    assert "nowhere.invalid cannot be found" in caplog.records[0].getMessage()


@pytest.mark.parametrize("write", [write_spectra, write_table])
def test_what_killed_writers_left_is_swept_a_day_later(tmp_path, spectra, write):
    made = make_spectra(2, errors=False) if write is write_spectra else Table({"x": [1]})
    names = [".z.csv.0123abcd.part", ".z.csv.89abcdef.part", ".y.csv.0123abcd.part"]
    for name in names:
        (tmp_path / name).touch()
    os.utime(tmp_path / names[0], (0, 0))
    os.utime(tmp_path / names[2], (0, 0))
    write(made, tmp_path / "z.csv")
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        names[2],
        names[1],
        "inputs",
        "z.csv",
    ]
