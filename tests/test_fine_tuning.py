"""Distributions trained end to end, training sets with their own split, and fine-tuning."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest

from gaia_redshift import load_model, sample_spectra, simulate_spectra
from gaia_redshift.cli import main
from gaia_redshift.datasets import SkySplit, build_training_set, read_dataset
from gaia_redshift.errors import InputError
from gaia_redshift.spectra import FluxVectors
from gaia_redshift.train import TrainingConfig, fit, make_fine_tuning_config, train_model
from gaia_redshift.train.fit import read_checkpoint, write_checkpoint
from gaia_redshift.train.networks import freeze_layers, get_recipe
from gaia_redshift.train.training import read_parent

pytestmark = [
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs the extra 'train'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

N = 400
TINY = TrainingConfig.from_dict(
    get_recipe("residual")
    | {"name": "tiny", "epochs": 10, "batch_size": 32, "grid_jitter": 0.0, "bins": 40, "seed": 5}
    | {"split": (0.6, 0.2, 0.2), "weight_average": 0.9}
)


@pytest.fixture(scope="module")
def galaxies():
    """Vectors with errors, and redshifts."""
    spectra = simulate_spectra(N, seed=77)
    return sample_spectra(spectra, errors=True), np.array(spectra.columns["redshift_true"])


@pytest.fixture(scope="module")
def tiny(galaxies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    train_model(galaxies, output=folder / "tiny", config=TINY, progress=False)
    return folder


@pytest.fixture(scope="module")
def training_set(tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / "galaxies.parquet"
    build_training_set(
        path, spectra=simulate_spectra(N, seed=78), truth="redshift_true", split=SkySplit(seed=2)
    )
    return path


def read_weights(folder):
    return [np.array(v) for v in read_parent(folder).build().variables]


# --- distributions, end to end -------------------------------------------------------------------


def test_a_network_of_distributions_is_trained_calibrated_and_measured(tiny, galaxies):
    model = load_model(tiny / "tiny")
    vectors, z = galaxies
    found = model.predict(vectors.flux, vectors.flux_error, pdf=True)
    assert found.pdf.shape == (N, 40)
    assert np.all((found.lower <= found.redshift) & (found.redshift <= found.upper))
    # A few hundred galaxies teach little, but more than nothing.
    assert np.abs(found.redshift - z).mean() < 0.8 * np.abs(np.median(z) - z).mean()
    metrics = model.manifest["metrics"]
    assert metrics["prior"] == "sdss"
    assert {"coverage_68", "crps", "pit", "by_brightness"} <= set(metrics["test"])
    assert "within 68 %" in model.card
    assert model.bins.temperature[0] > 0


def test_the_same_seed_gives_the_same_weights_also_after_an_interruption(
    tiny, galaxies, tmp_path, monkeypatch
):
    def interrupt(*arguments, **keywords):
        write_checkpoint(*arguments, **keywords)
        raise KeyboardInterrupt

    options = {"output": tmp_path / "tiny", "config": TINY, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_model(galaxies, **options)
    train_model(galaxies, resume=True, **options)
    for one, other in zip(
        read_weights(tiny / "tiny"), read_weights(tmp_path / "tiny"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    one, other = (load_model(f / "tiny").manifest["metrics"] for f in (tiny, tmp_path))
    assert one == other


def test_a_network_that_learns_from_errors_needs_some(galaxies, tmp_path):
    vectors, z = galaxies
    bare = FluxVectors(source_id=vectors.source_id, flux=vectors.flux, grid=vectors.grid)
    with pytest.raises(InputError, match="learns from flux errors, and no spectrum has any"):
        train_model((bare, z), output=tmp_path / "m", config=TINY, progress=False)


def test_patience_stops_early_and_keeps_the_best_weights(galaxies, tmp_path):
    hasty = {"learning_rate": 0.2, "epochs": 40, "patience": 2, "weight_average": 0.0}
    config = TrainingConfig(**(TINY.to_dict() | hasty | {"schedule": "constant"}))
    train_model(galaxies, output=tmp_path / "m", config=config, progress=False)
    run = read_checkpoint(tmp_path / "m.run")
    losses = [record["validation_loss"] for record in run.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    for one, other in zip(read_weights(tmp_path / "m"), run.best, strict=True):
        np.testing.assert_array_equal(one, other)
    # Resuming a run that is over changes nothing.
    train_model(galaxies, output=tmp_path / "n", config=config, run_dir=tmp_path / "m.run",
                resume=True, progress=False)  # fmt: skip
    assert len(read_checkpoint(tmp_path / "m.run").history) == len(losses)


# --- training sets ---------------------------------------------------------------------------


def test_a_training_set_keeps_its_own_split(training_set, tmp_path, capsys):
    arguments = ["train", str(training_set), "--network", "residual", "--epochs", "1"]
    assert main([*arguments, "-o", str(tmp_path / "m"), "--quiet"]) == 0
    assert "test part" in capsys.readouterr().out
    data = read_dataset(training_set)
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    expected = {part: int((data.split == part).sum()) for part in ("train", "validation", "test")}
    assert manifest["training"]["n_galaxies"] == expected
    assert manifest["training"]["data"]["kind"] == "dataset"
    with np.load(tmp_path / "m.run" / "frozen_vectors.npz") as frozen:
        assert set(frozen["source_id"]) <= set(data.part("test").vectors.source_id)


def test_a_training_set_with_leaks_or_wrong_labels_is_refused(training_set, tmp_path):
    import dataclasses

    data = read_dataset(training_set)
    twice = dataclasses.replace(
        data.vectors, source_id=np.where(np.arange(N) < 2, 7, data.vectors.source_id)
    )
    split = data.split.copy()
    split[:2] = ["train", "test"]
    missing = data.redshift.copy()
    missing[3] = np.nan
    for changes, words in (
        ({"vectors": twice, "split": split, "region": None}, "leak: 1 times the same source"),
        ({"redshift": missing}, "have no redshift"),
        ({"redshift": data.redshift + 0.5}, "outside"),
    ):
        with pytest.raises(InputError, match=words):
            train_model(dataclasses.replace(data, **changes), output=tmp_path / "m", progress=False)
    with pytest.raises(InputError, match="at least 100"):
        train_model(data[:50], output=tmp_path / "m", progress=False)
    jittered = TrainingConfig(**(TINY.to_dict() | {"grid_jitter": 0.5}))
    with pytest.raises(InputError, match="cannot be sampled again; set it to 0"):
        train_model(data, output=tmp_path / "m", config=jittered, progress=False)


# --- fine-tuning -----------------------------------------------------------------------------


def test_fine_tuning_changes_what_is_free_and_keeps_the_rest(training_set, tmp_path, capsys):
    arguments = ["train", str(training_set), "--from", "default", "--freeze", "convolution"]
    arguments += ["--epochs", "2", "--mix", "300", "-o", str(tmp_path / "tuned"), "--quiet"]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    parent, child = load_model("default"), load_model(tmp_path / "tuned")
    # The last lines are what both predict for all galaxies of the test part.
    test = read_dataset(training_set).part("test")
    for model, line in ((child, said[-2]), (parent, said[-1])):
        found = model.predict(test.vectors.flux, test.vectors.flux_error).redshift
        mae = np.abs(found - test.redshift).mean()
        assert float(re.search(r"MAE ([\d.]+)", line)[1]) == pytest.approx(mae, abs=1e-4)
    assert said[-2].startswith(f"test part ({len(test):,} galaxies): MAE")
    assert said[-1].startswith(f"its parent {parent.name}: MAE")
    training = child.manifest["training"]
    assert training["parent"] == {
        "name": parent.name,
        "version": parent.version,
        "sha256": parent.manifest["files"]["weights"]["sha256"],
    }
    assert (
        training["n_galaxies"]["train"] == 300 + (read_dataset(training_set).split == "train").sum()
    )
    assert training["data"]["mixed_with"]["n"] == 300
    assert "--from default" in training["command"]
    assert f"Started from {parent.name}" in child.card
    assert "300 simulated galaxies" in child.card
    files = {role: parent.manifest["files"][role]["sha256"] for role in ("scaler", "weights")}
    assert child.manifest["files"]["scaler"]["sha256"] == files["scaler"]
    np.testing.assert_array_equal(child.bins.edges, parent.bins.edges)
    before, after = (read_parent(m).build() for m in ("default", tmp_path / "tuned"))
    for layer in before.layers:
        other = after.get_layer(layer.name)
        for one, two in zip(layer.weights, other.weights, strict=True):
            same = np.array_equal(np.array(one), np.array(two))
            assert same == layer.name.startswith("convolution"), layer.name


def test_a_child_has_its_parents_network_and_grid(training_set, galaxies, tmp_path):
    import dataclasses

    with pytest.raises(InputError, match="keeps its bins, 300, and cannot have 40"):
        train_model(training_set, output=tmp_path / "m", config=TINY, start="default")
    config = make_fine_tuning_config("default", epochs=1, mix=0)
    assert config.network == "residual"
    assert config.name == "residual2-tuned"
    vectors, z = galaxies
    moved = dataclasses.replace(vectors, grid=type(vectors.grid)(bp=(325, 675), rp=(615, 1067)))
    with pytest.raises(InputError, match="on another grid than those of residual2"):
        train_model((moved, z), output=tmp_path / "m", config=config, start="default")
    network = read_parent("default").build()
    with pytest.raises(InputError, match="no layer's name begins with 'lstm'; layers: conv"):
        freeze_layers(network, ["lstm"])
    with pytest.raises(InputError, match="nothing is left to train"):
        freeze_layers(network, ["convolution", "dense", "logits"])


def test_galaxies_to_mix_in_must_be_others(tmp_path):
    spectra = simulate_spectra(200, seed=5005)
    config = make_fine_tuning_config("default", epochs=1, mix=100, seed=5)
    with pytest.raises(InputError, match="are among those that are simulated to be mixed in"):
        train_model(spectra, output=tmp_path / "m", config=config, start="default", progress=False)
