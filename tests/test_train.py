"""Training: the recipe as published, no leaks, and a run that an interruption does not change."""

from __future__ import annotations

import csv
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from moving_bumps import make_galaxies

from gaia_redshift import load_model, sample_spectra, simulate_spectra, write_spectra
from gaia_redshift.cli import main
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.grid import DEFAULT_GRID
from gaia_redshift.train import (
    SimulatedGalaxies,
    TrainingConfig,
    export,
    fit,
    train_model,
)
from gaia_redshift.train.dataset import check_parts, prepare_dataset
from gaia_redshift.train.finish import measure_bins
from gaia_redshift.train.fit import write_checkpoint
from gaia_redshift.train.networks import get_network
from gaia_redshift.train.sources import LabelledVectors, collect_vectors

pytestmark = [
    # Keras 3.15 with NumPy 2.4, when it writes a network.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("keras", "onnx", "tensorflow")),
        reason="training needs the extra 'train'",
    ),
]

TINY = TrainingConfig(name="tiny", epochs=2, batch_size=64, seed=4)


def label(n: int = 300, **changes) -> LabelledVectors:
    vectors, z = make_galaxies(n)
    values = {"source_id": vectors.source_id, "flux": vectors.flux, "redshift": z}
    return LabelledVectors(**(values | changes), description={"kind": "vectors"})


def make_folder(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def read_state(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "checkpoint.npz") as content:
        return {key: content[key] for key in content.files if key != "state"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A model folder and its run folder, trained without interruption."""
    root = tmp_path_factory.mktemp("finished")
    train_model(
        make_galaxies(), output=root / "tiny", config=TINY, run_dir=root / "run", progress=False
    )
    return root / "tiny", root / "run"


# --- the recipe -------------------------------------------------------------------------------


def test_the_network_is_the_published_one():
    network = get_network("kiraleos2023").build(1, 150)
    assert network.count_params() == 699_073
    assert network.input_shape == (None, 186, 1)
    settings = [(type(layer).__name__, layer.get_config()) for layer in network.layers]
    convolutions = [c for name, c in settings if name == "Conv1D"]
    assert [c["filters"] for c in convolutions] == [256, 256, 128, 64]
    assert [tuple(c["kernel_size"]) for c in convolutions] == [(5,), (5,), (3,), (2,)]
    assert {c["padding"] for c in convolutions} == {"valid"}
    assert [name for name, _ in settings[:8]] == ["Conv1D", "MaxPooling1D"] * 4
    assert {tuple(c["pool_size"]) for name, c in settings if name == "MaxPooling1D"} == {(2,)}
    dense = [c for name, c in settings if name == "Dense"]
    assert [c["units"] for c in dense] == [256, 256, 128, 64, 1]
    assert [c["activation"] for c in convolutions + dense] == ["relu"] * 8 + ["linear"]


def test_the_default_configuration_is_the_published_recipe():
    config = TrainingConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (20, 16, 0.001)
    assert config.split == (0.63, 0.27, 0.10)
    assert config.huber_delta == 1.0
    assert config.redshift_range == (0.0, 0.6)


def test_initial_weights_follow_the_seed_and_leave_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    build = get_network("kiraleos2023").build
    first, again, other = (build(seed, 150).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_configurations_survive_json():
    again = TrainingConfig.from_dict(json.loads(json.dumps(TINY.to_dict())))
    assert again == TINY


def test_only_the_training_part_is_sampled_on_moved_grids(tmp_path):
    spectra = simulate_spectra(150, seed=5, correlations=False)
    grid = DEFAULT_GRID
    plain = collect_vectors(spectra, make_folder(tmp_path, "a"), truth="redshift_true", grid=grid)
    config = TrainingConfig(grid_jitter=True, seed=4)
    make_folder(tmp_path, "b")
    jittered, again = (
        collect_vectors(
            spectra, tmp_path / "b", truth="redshift_true", grid=grid, jitter_seed=config.seed
        )
        for _ in range(2)
    )
    dataset = prepare_dataset(jittered, config)
    on_grid = prepare_dataset(plain, config)

    def unscale(part, chosen):
        low, high = chosen.scaler.minimum, chosen.scaler.maximum
        return chosen.scale(chosen.take(part))["flux"] * (high - low) + low

    np.testing.assert_array_equal(again.flux_moved, jittered.flux_moved)
    np.testing.assert_array_equal(jittered.flux, plain.flux)
    for part in ("validation", "test"):
        np.testing.assert_allclose(
            unscale(part, dataset), unscale(part, on_grid), rtol=1e-4, atol=1e-4
        )
    moved = plain.flux[on_grid.rows["train"]] - jittered.flux_moved[dataset.rows["train"]]
    # Another grid for each few: none is on the model's own, each is close to it.
    size = np.abs(moved).max(axis=1) / plain.flux[on_grid.rows["train"]].max(axis=1)
    assert (size > 1e-4).all()
    assert np.median(size) < 0.2


def test_vectors_cannot_be_sampled_on_moved_grids(tmp_path):
    with pytest.raises(InputError, match="grid_jitter needs spectra"):
        train_model(
            make_galaxies(),
            output=tmp_path / "model",
            config=TrainingConfig(grid_jitter=True),
            progress=False,
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"epochs": 2.5}, "epochs must be a whole number from 1"),
        ({"learning_rate": -1}, "learning_rate must be positive"),
        ({"split": [0.5, 0.5, 0.5]}, "add to 1"),
        ({"redshift_range": [1, 0]}, "two rising numbers"),
        ({"dropout": 0.5}, "unknown training option 'dropout'"),
        ({"name": ""}, "needs a name"),
    ],
)
def test_unusable_configurations(content, words):
    with pytest.raises(InputError, match=words):
        TrainingConfig.from_dict(content)


# --- the data ---------------------------------------------------------------------------------


def test_the_split_is_seeded_disjoint_and_of_the_stated_sizes():
    dataset = prepare_dataset(label(1000), TINY)
    sizes = {part: len(rows) for part, rows in dataset.rows.items()}
    assert sizes == {"train": 630, "validation": 270, "test": 100}
    assert sorted(np.concatenate(list(dataset.rows.values()))) == list(range(1000))
    again = prepare_dataset(label(1000), TINY)
    assert all(np.array_equal(dataset.rows[part], again.rows[part]) for part in sizes)
    other = prepare_dataset(label(1000), TrainingConfig(seed=5))
    assert not np.array_equal(dataset.rows["test"], other.rows["test"])


def test_the_scaler_knows_the_training_part_alone():
    vectors = label()
    rows = prepare_dataset(vectors, TINY).rows
    flux = vectors.flux.copy()
    flux[rows["test"]] *= 100
    flux[rows["validation"]] -= 1000
    dataset = prepare_dataset(label(flux=flux), TINY)
    np.testing.assert_array_equal(dataset.scaler.minimum, flux[rows["train"]].min(axis=0))
    np.testing.assert_array_equal(dataset.scaler.maximum, flux[rows["train"]].max(axis=0))
    scaled = dataset.scale(dataset.take("train"))["flux"]
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert dataset.scale(dataset.take("test"))["flux"].max() > 10


def test_observations_of_one_source_stay_together():
    source_id = np.repeat(np.arange(150), 2)
    dataset = prepare_dataset(label(300, source_id=source_id), TINY)
    for part, rows in dataset.rows.items():
        assert np.all(np.unique(source_id[rows], return_counts=True)[1] == 2), part


def test_parts_that_share_sources_are_refused():
    with pytest.raises(InputError, match=r"train and test parts share 2 sources \(source_id 3"):
        check_parts({"train": np.array([1, 2, 3, 4]), "test": np.array([5, 4, 3])})
    with pytest.raises(InputError, match="the test part is empty"):
        check_parts({"train": np.array([1]), "test": np.array([], dtype=np.int64)})


def with_value(value: float) -> np.ndarray:
    z = make_galaxies()[1]
    z[7] = value
    return z


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ((make_galaxies()[0], with_value(np.nan)), "1 of 300 true redshifts are missing"),
        ((make_galaxies()[0], with_value(0.61)), "1 of 300 true redshifts lie outside 0 to 0.6"),
        ((make_galaxies()[0], with_value(-0.001)), "outside 0 to 0.6"),
        (make_galaxies(99), "at least 100 galaxies with usable spectra, these are 99"),
        ((make_galaxies(99)[0], np.ones(5)), "5 true redshifts for 99 vectors"),
        ((make_galaxies(9)[0], ["a"] * 9), "not numbers"),
    ],
)
def test_unusable_data_is_one_clear_error(tmp_path, source, words):
    with pytest.raises(InputError, match=words) as error:
        train_model(source, output=tmp_path / "model", config=TINY, progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


def test_unusable_spectra_are_left_out_and_counted(tmp_path):
    vectors, z = make_galaxies(200)
    vectors.quality[:5] = QualityFlag.MISSING_BP
    vectors.flux[5] = np.nan
    found = collect_vectors((vectors, z), tmp_path, truth="z", grid=vectors.grid)
    assert found.source_id.tolist() == list(range(7, 201))
    assert found.description["n_given"] == 200
    assert found.description["n_unusable"] == 6
    assert found.description["simulated"] is False


def test_simulated_galaxies_and_spectra_give_the_same_vectors(tmp_path):
    spectra = simulate_spectra(30, seed=2, correlations=False)
    grid = make_galaxies(1)[0].grid
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    drawn = collect_vectors(
        SimulatedGalaxies(30, seed=2), folders[0], truth="redshift_true", grid=grid
    )
    given = collect_vectors(spectra, folders[1], truth="redshift_true", grid=grid)
    assert np.array_equal(drawn.flux, given.flux)
    assert np.array_equal(drawn.redshift, np.asarray(spectra.columns["redshift_true"]))
    assert drawn.description["simulated"]
    assert given.description["simulated"]
    expected = sample_spectra(spectra, errors=False)
    np.testing.assert_allclose(drawn.flux, expected.flux, rtol=1e-6)
    assert drawn.source_id.tolist() == expected.source_id.tolist()
    (tmp_path / "c").mkdir()
    parts = (spectra[start : start + 10] for start in (0, 10, 20))
    streamed = collect_vectors(parts, tmp_path / "c", truth="redshift_true", grid=grid)
    assert np.array_equal(streamed.flux, given.flux)
    with pytest.raises(InputError, match="no column 'z_spec'"):
        collect_vectors(spectra, tmp_path, truth="z_spec", grid=grid)


# --- runs -------------------------------------------------------------------------------------


def test_a_finished_model_says_how_it_was_made(finished):
    folder, run = finished
    model = load_model(folder)
    training = model.manifest["training"]
    assert TrainingConfig.from_dict(training["config"]) == TINY
    assert training["seed"] == 4
    assert training["n_galaxies"] == {"train": 189, "validation": 81, "test": 30}
    assert model.manifest["trained_on"] == "galaxies given by the user"
    assert "SIMULATED" not in model.card
    assert model.manifest["engine"] == "onnx"
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "model_card.md",
        "network.onnx",
        "scaler.json",
        "weights.keras",
    }
    assert "tensorflow" in training["packages"]

    vectors, z = make_galaxies()
    rows = prepare_dataset(label(flux=vectors.flux.astype(np.float32)), TINY).rows["test"]
    error = model.predict(vectors.flux[rows]).redshift - z[rows]
    metrics = model.manifest["metrics"]["test"]
    assert metrics["n"] == 30
    assert metrics["mae"] == pytest.approx(np.abs(error).mean(), abs=1e-5)
    assert metrics["bias"] == pytest.approx((error / (1 + z[rows])).mean(), abs=1e-5)
    assert f"{metrics['mae']:.4f}" in model.card

    with (run / "history.csv").open() as stream:
        history = list(csv.DictReader(stream))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert float(history[1]["loss"]) < float(history[0]["loss"])
    with np.load(run / "frozen_vectors.npz") as frozen:
        found = model.predict(frozen["flux"]).redshift
        np.testing.assert_allclose(found, frozen["redshift_cnn"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_redshifts_corrected_during_an_interruption_are_told(tmp_path, where):
    spectra = simulate_spectra(20, seed=3, correlations=False)

    def collect():
        source = spectra
        if where == "file":
            source = tmp_path / "a.csv"
            write_spectra(spectra, source, overwrite=True)
        return collect_vectors(source, tmp_path, truth="redshift_true", grid=DEFAULT_GRID)

    spectra.columns["redshift_true"] = np.full(20, 0.25)
    assert (collect().redshift == 0.25).all()
    assert (collect().redshift == 0.25).all()
    spectra.columns["redshift_true"][3] = 0.35
    with pytest.raises(InputError, match="begun with other data"):
        collect()


def test_an_interrupted_run_ends_like_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    def interrupt(*arguments, **keywords):
        write_checkpoint(*arguments, **keywords)
        raise KeyboardInterrupt

    options = {"output": tmp_path / "tiny", "run_dir": tmp_path / "run", "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_model(make_galaxies(), config=TINY, **options)
    assert not (tmp_path / "tiny").exists()

    with pytest.raises(InputError, match="holds a run of 1 epochs: resume it"):
        train_model(make_galaxies(), config=TINY, **options)
    other = TrainingConfig(**(TINY.to_dict() | {"batch_size": 32}))
    with pytest.raises(InputError, match="begun with batch_size 64, not 32"):
        train_model(make_galaxies(), config=other, resume=True, **options)
    with pytest.raises(InputError, match="begun with other data"):
        train_model(make_galaxies(seed=9), config=TINY, resume=True, **options)

    train_model(make_galaxies(), config=TINY, resume=True, **options)
    one, other = read_state(finished[1]), read_state(tmp_path / "run")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)
    metrics = [load_model(f).manifest["metrics"] for f in (finished[0], tmp_path / "tiny")]
    assert metrics[0] == metrics[1]
    with pytest.raises(InputError, match="exists already"):
        train_model(make_galaxies(), config=TINY, resume=True, **options)
    shorter = TrainingConfig(**(TINY.to_dict() | {"epochs": 1}))
    with pytest.raises(InputError, match="already done 2 epochs"):
        train_model(
            make_galaxies(), config=shorter, resume=True, **(options | {"output": tmp_path / "b"})
        )


def test_a_failed_export_leaves_nothing_and_can_be_repeated(finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    for path in finished[1].iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    options = {"output": tmp_path / "out" / "tiny", "run_dir": run, "progress": False}

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_card", fail)
        with pytest.raises(OSError, match="disk full"):
            train_model(make_galaxies(), config=TINY, resume=True, **options)
    assert list((tmp_path / "out").iterdir()) == []
    train_model(make_galaxies(), config=TINY, resume=True, **options)
    assert load_model(tmp_path / "out" / "tiny").name == "tiny"


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        train_model(
            make_galaxies(),
            output=tmp_path / "model",
            config=TINY,
            run_dir=tmp_path / "run",
            resume=True,
            progress=False,
        )


def test_damaged_vectors_are_one_clear_error(finished, tmp_path):
    for name in ("vectors.json", "source_id.npy", "redshift.npy"):
        (tmp_path / name).write_bytes((finished[1] / name).read_bytes())
    (tmp_path / "flux.npy").write_bytes((finished[1] / "flux.npy").read_bytes()[:1000])
    vectors, z = make_galaxies()
    with pytest.raises(InputError, match="the run's vectors are damaged"):
        collect_vectors((vectors, z), tmp_path, truth="z", grid=vectors.grid)


def test_a_training_that_diverges_says_so(tmp_path):
    vectors, z = make_galaxies(120)
    config = TrainingConfig(learning_rate=1e30, epochs=1, batch_size=16)
    with pytest.raises(ModelError, match="diverged in epoch 1"):
        train_model((vectors, z), output=tmp_path / "model", config=config, progress=False)


def test_unknown_networks_are_refused_before_anything_is_read(tmp_path):
    config = TrainingConfig(network="resnet")
    with pytest.raises(InputError, match="no network named 'resnet'; known: kiraleos2023"):
        train_model("no_such_file.csv", output=tmp_path / "model", config=config)


@pytest.mark.parametrize("missing", ["onnx", "sklearn"])
def test_what_is_not_installed_is_said_before_anything_is_read(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    config = TrainingConfig(network="residual")
    with pytest.raises(ModelError, match=r"needs .*pip install 'gaia-redshift\[train\]'"):
        train_model(tmp_path / "none.csv", output=tmp_path / "model", config=config)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_on_simulated_galaxies(tmp_path, capsys):
    command = ["train", "--simulate", "120", "--seed", "3", "--epochs", "1", "--batch-size", "32"]
    assert main([*command, "-q", "-o", str(tmp_path / "mine")]) == 0
    assert "trained on simulated galaxies" in capsys.readouterr().out
    model = load_model(tmp_path / "mine")
    assert model.name == "mine"
    assert model.manifest["trained_on"] == "simulated galaxies"
    assert "Trained on SIMULATED galaxies" in model.card
    command = model.manifest["training"]["command"]
    assert command.startswith("gaia-redshift train --simulate 120 --survey sdss --sky sdss")
    assert str(tmp_path) not in (tmp_path / "mine" / "manifest.json").read_text()


def test_bins_of_redshift():
    true = np.array([0.01, 0.02, 0.05, 0.6])
    rows = measure_bins(true + np.array([0.01, 0.03, 0.0, -0.1]), true, (0.0, 0.6))
    assert [(row["low"], row["high"], row["n"]) for row in rows] == [
        (0.0, 0.05, 2),
        (0.05, 0.1, 1),
        (0.55, 0.6, 1),
    ]
    assert rows[0]["mean_error"] == pytest.approx(0.02)
    assert rows[0]["scatter"] == pytest.approx(0.01)
