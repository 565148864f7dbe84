"""The search over networks: options of the default one, a study that an interruption leaves."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec

import numpy as np
import pytest
from moving_bumps import make_galaxies

from gaia_redshift.errors import InputError
from gaia_redshift.train import TrainingConfig, search_networks
from gaia_redshift.train import search as module
from gaia_redshift.train.config import read_config
from gaia_redshift.train.networks import get_network, get_recipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("keras", "onnx", "optuna", "tensorflow")),
        reason="a search needs the extras 'search' and 'train'",
    ),
]

GALAXIES = make_galaxies(200, errors=True)
SPACE = {"units": (16, 32), "blocks": (1, 2), "dropout": (0.0, 0.2), "learning_rate": (1e-3, 3e-3)}
SMALL = get_recipe("residual") | {
    "epochs": 1,
    "batch_size": 64,
    "grid_jitter": 0.0,
    "bins": 20,
    "network_options": {"filters": 2, "units": 16, "blocks": 1},
    "split": (0.6, 0.3, 0.1),
    "learning_rate": 1e-3,
}


def search(folder, trials=2, **options):
    config = TrainingConfig.from_dict(SMALL)
    options = {"config": config, "space": SPACE, "progress": False} | options
    return search_networks(GALAXIES, output=folder, trials=trials, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "study"
    return folder, search(folder)


def test_the_usual_layout_is_the_default():
    kind = get_network("residual")
    assert kind.defaults == {
        "filters": 16, "kernel": 9, "stride": 3, "units": 384, "blocks": 3, "dropout": 0.0,
    }  # fmt: skip
    usual, named = kind.build(2, 30), kind.build(2, 30, **kind.defaults)
    assert [layer.name for layer in usual.layers] == [layer.name for layer in named.layers]
    for a, b in zip(usual.get_weights(), named.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = kind.build(2, 30, filters=4, units=30, blocks=1, dropout=0.1)
    names = [layer.name for layer in other.layers]
    assert "dropout_1" in names
    assert "dense_2a" not in names
    assert other.get_layer("dense_1a").units == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 3}, "unknown option 'depth' of the network; known: filters, kernel"),
        ({"units": 0}, "units must be from 2 to 8192, not 0"),
        ({"blocks": 1.5}, "blocks must be a whole number"),
        ({"dropout": 1.0}, r"dropout must be from 0 to 0\.9"),
    ],
)
def test_unusable_options(options, words):
    with pytest.raises(InputError, match=words):
        get_network("residual").check_options(options)
    with pytest.raises(InputError, match="it has none"):
        get_network("kiraleos2023").check_options(options)


def test_a_search_writes_its_tables(finished):
    folder, records = finished
    losses = [record["validation_loss"] for record in records]
    assert losses == sorted(losses)
    assert sorted(record["trial"] for record in records) == [1, 2]
    first = next(record for record in records if record["trial"] == 1)
    values = {"units": 16, "blocks": 1, "dropout": 0.0, "learning_rate": 1e-3}
    # What is not in the configuration has the network's usual value.
    assert {name: first[name] for name in values} == values
    with (folder / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["trial"]) for row in rows] == [record["trial"] for record in records]
    assert float(rows[0]["validation_loss"]) == losses[0]
    table = (folder / "trials.md").read_text()
    assert table.count("\n| ") == 3
    assert "trained on 120 and judged on 60 galaxies" in table
    best = TrainingConfig.from_dict(read_config(folder / "best.json"))
    assert best.learning_rate == records[0]["learning_rate"]
    assert best.network_options["units"] == records[0]["units"]
    assert best.network_options["filters"] == 2
    assert not list(folder.glob("trial_*"))


def pretend(network, dataset, config, objective, **options):
    """Instead of a training: a loss that depends on the configuration, and no time."""
    loss = 100 * config.learning_rate + config.network_options.get("units", 384) / 100
    return [{"validation_loss": loss, "validation_mae": loss / 10}]


def pretend_with_defaults(network, dataset, *arguments, **options):
    assert len(dataset.rows["train"]) == 108
    return pretend(network, dataset, *arguments, **options)


def test_an_interrupted_search_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fit_network", pretend)
    whole = search(tmp_path / "whole", trials=9)
    assert {record["units"] for record in whole[:2]} == {16}, "the best that there is"
    count = iter(range(100))

    def interrupt(*arguments, **options):
        if next(count) in (0, 3, 9):
            raise KeyboardInterrupt
        return pretend(*arguments, **options)

    folder = tmp_path / "study"
    monkeypatch.setattr(module, "fit_network", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search(folder, trials=9)
    with pytest.raises(InputError, match="holds a search: resume it"):
        search(folder)
    with pytest.raises(InputError, match="another configuration or space"):
        search(folder, resume=True, space={"units": (16, 32)})
    with pytest.raises(KeyboardInterrupt):
        search(folder, trials=9, resume=True)
    assert len(search(folder, trials=4, resume=True)) == 4
    with pytest.raises(KeyboardInterrupt):
        search(folder, trials=9, resume=True)
    again = search(folder, trials=9, resume=True)

    def without_time(records):
        return [{k: v for k, v in record.items() if k != "seconds"} for record in records]

    assert without_time(again) == without_time(whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {}}, "the search space is empty"),
        ({"space": {"seed": (1, 2)}}, "'seed' cannot be searched over; what can: filters, kernel"),
        ({"space": {"units": ()}}, "no values of 'units'"),
        ({"space": {"units": (0,)}}, "units must be from 2"),
        ({"space": {"learning_rate": (-1.0,)}}, "learning_rate must be positive"),
        ({"trials": 0}, "at least one trial"),
    ],
)
def test_unusable_searches(tmp_path, options, words):
    with pytest.raises(InputError, match=words) as error:
        search(tmp_path / "study", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "study").exists()


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no search"):
        search(tmp_path)


def test_options_are_recorded_with_the_model(tmp_path):
    from gaia_redshift import load_model
    from gaia_redshift.train import train_model

    config = TrainingConfig.from_dict(SMALL)
    folder = train_model(GALAXIES, output=tmp_path / "model", config=config, progress=False)
    manifest = load_model(folder).manifest
    assert manifest["training"]["config"]["network_options"] == config.network_options
    assert json.loads(json.dumps(config.to_dict())) == manifest["training"]["config"]
    wrong = TrainingConfig.from_dict(SMALL | {"network_options": {"depth": 2}})
    with pytest.raises(InputError, match="unknown option 'depth'"):
        train_model(GALAXIES, output=tmp_path / "b", config=wrong, progress=False)


def test_the_command(tmp_path, capsys, monkeypatch):
    from gaia_redshift.cli import main

    monkeypatch.setattr(module, "fit_network", pretend_with_defaults)
    folder = tmp_path / "study"
    command = ["train", "--simulate", "120", "--network", "residual", "--epochs", "1"]
    command += ["--grid-jitter", "0", "--search", "1", "-o", str(folder), "--quiet"]
    assert main([*command, "--from", "default"]) == 1
    assert "does not go with --from" in capsys.readouterr().err
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "1 configuration of the network `residual`" in said
    assert "simulated galaxies" in said
    assert main(command) == 1
    assert "holds a search: resume it" in capsys.readouterr().err
