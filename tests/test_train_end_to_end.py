"""The script of the whole way runs: archive, training set, trainings, report, redshifts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gaia_redshift import load_model, read_table
from gaia_redshift.datasets import read_dataset

SCRIPT = Path(__file__).parents[1] / "catalogs" / "train_end_to_end.py"

pytestmark = [
    pytest.mark.skipif(not SCRIPT.exists(), reason="the catalogs are in the repository"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("keras", "onnx", "tensorflow")),
        reason="training needs the extra 'train'",
    ),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("script_train_end_to_end", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_whole_way(script, tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["--simulated", "330", "--mix", "60", "--epochs", "1", "--tuning-epochs", "1"]
    assert script.main([*command, "-o", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "tuned: bias" in said

    dataset = read_dataset(folder / "training_set.parquet")
    assert len(dataset) == round(0.9 * 330)
    assert dataset.manifest["simulated"] is True
    assert dataset.manifest["labels"]["catalogue"] == "catalogue.fits"
    default = load_model("default")
    tuned = load_model(folder / "tuned")
    trained = load_model(folder / "trained")
    training = tuned.manifest["training"]
    assert training["parent"]["name"] == default.name
    assert training["parent"]["sha256"] == default.manifest["files"]["weights"]["sha256"]
    assert "parent" not in trained.manifest["training"]
    part = dataset.rows
    assert training["n_galaxies"]["test"] == len(part["test"])
    assert training["n_galaxies"]["train"] == len(part["train"])
    assert trained.manifest["training"]["n_galaxies"]["train"] == len(part["train"]) + 60

    table = read_table(folder / "predictions.ecsv")
    test = dataset.part("test")
    assert table["source_id"].tolist() == test.vectors.source_id.tolist()
    np.testing.assert_allclose(table["redshift_true"], test.redshift)
    found = tuned.predict(test.vectors.flux, test.vectors.flux_error)
    np.testing.assert_allclose(table["redshift_cnn_tuned"], found.redshift, atol=2e-5)
    page = (folder / "report" / "report.html").read_text()
    assert "tuned" in page
    assert "simulated" in page

    # Again: nothing is done twice.
    before = (folder / "tuned" / "manifest.json").stat().st_mtime_ns
    assert script.main([*command, "-o", str(folder)]) == 0
    assert (folder / "tuned" / "manifest.json").stat().st_mtime_ns == before


def test_what_is_missing_is_one_line(script, tmp_path, capsys):
    assert script.main(["-o", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "error: give either --simulated N or --sources\n"
