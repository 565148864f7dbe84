"""Standard input and output, and pipes: read once and whole, or refused."""

from __future__ import annotations

import io
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from test_scale import FakeModel, make_spectra, write_columns

import gaia_redshift.model.registry as registry
from gaia_redshift import read_table, write_spectra, write_table
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError
from gaia_redshift.readers import content, read_spectra
from gaia_redshift.readers.files import read_ids


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(content, "_copies", {})


@pytest.fixture
def fake_default(monkeypatch):
    monkeypatch.setattr(registry, "load_model", lambda *args, **options: FakeModel())


def give(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_ids_from_a_pipe_of_the_shell_are_all_read(tmp_path):
    ids = 4 * 10**18 + np.arange(10_000)
    reading, writing = os.pipe()

    def fill():
        with os.fdopen(writing, "w") as stream:
            stream.writelines(f"{i}\n" for i in ids)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        found = read_ids(f"/dev/fd/{reading}")["source_id"]
        assert found.tolist() == ids.tolist()
        assert len(read_ids(f"/dev/fd/{reading}")) == len(ids), "it can be read again"
    finally:
        thread.join()
        os.close(reading)


@pytest.mark.parametrize("read", [read_ids, read_spectra])
def test_named_pipes_and_devices_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", "/dev/zero"):
        with pytest.raises(InputError, match="is no regular file; `-` reads from standard input"):
            read(path)


@pytest.mark.parametrize("ending", ["csv", "ecsv", "vot", "parquet"])
def test_spectra_and_ids_come_from_standard_input(tmp_path, monkeypatch, ending):
    spectra = make_spectra(5, errors=False)
    write_spectra(spectra, tmp_path / f"a.{ending}")
    give(monkeypatch, (tmp_path / f"a.{ending}").read_bytes())
    assert read_spectra("-").source_id.tolist() == spectra.source_id.tolist()
    content._copies.clear()
    write_table(Table({"source_id": spectra.source_id}), tmp_path / f"ids.{ending}")
    give(monkeypatch, (tmp_path / f"ids.{ending}").read_bytes())
    assert read_ids("-")["source_id"].tolist() == spectra.source_id.tolist()


@pytest.mark.parametrize(
    ("kind", "first"), [(None, "# %ECSV"), ("csv", "source_id,"), ("votable", "<?xml")]
)
def test_predictions_go_to_standard_output_and_words_do_not(
    tmp_path, monkeypatch, capfd, fake_default, kind, first
):
    path = write_columns(tmp_path / "a.parquet", n=4)
    give(monkeypatch, path.read_bytes())
    more = ["--format", kind] if kind else []
    assert main(["predict", "-", "-o", "-", *more]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith(first)
    out = tmp_path / f"z.{'ecsv' if kind is None else kind}"
    out.write_text(shown.out)
    assert read_table(out)["source_id"].tolist() == [4 * 10**18 + i for i in range(4)]
    assert "4 sources" not in shown.out
    assert "table: standard output" in shown.err
    assert main(["predict", str(path), "-o", str(tmp_path / "z.csv"), "--format", "csv"]) == 1
    assert "--format goes with -o -" in capfd.readouterr().err
    assert main(["predict", str(path), "-o", "-", "--json"]) == 2
    assert capfd.readouterr().out == ""


def test_crossmatch_reads_and_writes_pipes(tmp_path, monkeypatch, capfd):
    write_table(Table({"ra": [10.0], "dec": [1.0], "z": [0.3]}), tmp_path / "c.csv")
    give(monkeypatch, b"ra,dec\n10,1\n")
    names = ["--columns", "ra=ra,dec=dec,redshift=z", "--classes", "any", "--zwarning", "any"]
    catalogue = ["--catalogue", str(tmp_path / "c.csv"), "--survey", "x", *names]
    assert main(["crossmatch", "-", *catalogue, "-o", "-", "--format", "csv"]) == 0
    assert capfd.readouterr().out.splitlines()[1].startswith("10,1,0.3,")
