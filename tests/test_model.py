"""The model store: what is loaded is what was written, and nothing unsafe gets in."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from moving_bumps import make_galaxies

from gaia_redshift import available_models, load_model
from gaia_redshift.errors import InputError, ModelError, ModelIntegrityError
from gaia_redshift.flags import QualityFlag
from gaia_redshift.model import DEFAULT_MODEL, registry
from gaia_redshift.model.keras_engine import KerasEngine
from gaia_redshift.model.postprocess import flag_redshifts
from gaia_redshift.model.scaler import MinMaxScaler, parse_scaler

# Keras 3.15 with NumPy 2.4, when it writes a network.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)

DATA = Path(__file__).parent / "data"
FROZEN = ("kiraleos2023", "residual2")

_spec = importlib.util.spec_from_file_location("make_frozen", DATA / "make_frozen.py")
make_frozen = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_frozen)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the network of 2023, under another name."""
    folder = tmp_path_factory.mktemp("trained") / "tiny"
    shutil.copytree(load_model("kiraleos2023").folder, folder)
    edit_manifest(folder, name="tiny", version="0.1")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "copy"))


SHAPES = {"flux": (186,)}


def edit_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def replace_file(folder: Path, role: str, data: bytes) -> None:
    """Put other bytes in a file, with the sha256 that they have: what an attacker would do."""
    files = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / files[role]["name"]).write_bytes(data)
    files[role] |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    edit_manifest(folder, files=files)


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- loading and predicting -------------------------------------------------------------------


def test_a_model_tells_what_it_is(trained):
    model = load_model(trained)
    assert (model.name, model.version) == ("tiny", "0.1")
    assert model.sha256 == hashlib.sha256((trained / "network.onnx").read_bytes()).hexdigest()
    assert model.redshift_range == (0.0, 0.6)
    assert model.uses_errors is False
    assert model.grid.to_dict() == model.manifest["grid"]
    assert model.card.startswith("# kiraleos2023 2.0")
    assert model.folder == trained


SET_BY_LIBRARIES = {"TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND"}


def run_python(code: str, **options) -> subprocess.CompletedProcess:
    # What Keras and JAX have set in this process is not for others.
    environment = {k: v for k, v in os.environ.items() if k not in SET_BY_LIBRARIES}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def test_predictions_are_those_of_a_forward_pass_in_numpy(trained):
    vectors, _ = make_galaxies(50, seed=1)
    expected = make_frozen.predict(trained, vectors.flux)
    found = load_model(trained).predict(vectors.flux)
    assert found.redshift.dtype == np.float64
    np.testing.assert_allclose(found.redshift, expected, rtol=0, atol=1e-5)
    assert np.ptp(found.redshift) > 0
    assert found.lower is None
    assert found.upper is None


@pytest.mark.parametrize("name", FROZEN)
def test_bundled_models_give_the_frozen_redshifts(name):
    with np.load(DATA / f"frozen_{name}.npz") as frozen:
        errors = frozen.get("flux_error")
        found = load_model(name).predict(frozen["flux"], errors)
        np.testing.assert_allclose(found.redshift, frozen["redshift_numpy"], rtol=0, atol=2e-5)
        assert len(found) >= 30


def test_batches_do_not_change_predictions(trained):
    model = load_model(trained)
    flux = make_galaxies(130, seed=2)[0].flux
    whole = model.predict(flux).redshift
    for size in (1, 7, 64, 1000):
        np.testing.assert_allclose(
            model.predict(flux, batch_size=size).redshift, whole, rtol=0, atol=1e-6
        )
    alone = np.concatenate([model.predict(flux[i : i + 1]).redshift for i in range(5)])
    np.testing.assert_allclose(alone, whole[:5], rtol=0, atol=1e-6)


def test_no_vectors_give_no_redshifts(trained):
    found = load_model(trained).predict(np.empty((0, 186)))
    assert found.redshift.shape == found.flags.shape == (0,)


def test_rows_that_are_not_finite_are_nan_and_leave_the_others_alone(trained):
    model = load_model(trained)
    flux = make_galaxies(4, seed=3)[0].flux
    whole = model.predict(flux).redshift
    flux[1, 5], flux[2, 0] = np.nan, np.inf
    found = model.predict(flux)
    assert np.isnan(found.redshift).tolist() == [False, True, True, False]
    np.testing.assert_allclose(found.redshift[[0, 3]], whole[[0, 3]], rtol=0, atol=1e-6)
    masked = np.ma.masked_where([[True] * 186, [False] * 186], np.nan_to_num(flux[[0, 3]]))
    assert np.isnan(model.predict(masked).redshift).tolist() == [True, False]


def test_fluxes_beyond_the_training_are_flagged(trained):
    model = load_model(trained)
    scaler = json.loads((trained / "scaler.json").read_text())
    low, high = np.array(scaler["minimum"]), np.array(scaler["maximum"])
    middle = (low + high) / 2
    flux = np.tile(middle, (5, 1))
    flux[1, 70] = low[70] + 1.09 * (high - low)[70]
    flux[2, 70] = low[70] + 1.11 * (high - low)[70]
    flux[3, 70] = low[70] - 0.11 * (high - low)[70]
    flux[4] = 1e300
    outside = (model.predict(flux).flags & QualityFlag.FLUX_OUT_OF_RANGE) != 0
    assert outside.tolist() == [False, False, True, True, True]


def test_redshifts_beyond_the_training_are_flagged():
    redshift = np.array([-0.001, 0.0, 0.3, 0.6, 0.601, np.nan])
    flags = flag_redshifts(
        np.zeros(6),
        redshift,
        redshift_range=(0.0, 0.6),
        flux_tolerance=0.1,
    )
    outside = (flags & QualityFlag.REDSHIFT_OUT_OF_RANGE) != 0
    assert outside.tolist() == [True, False, False, False, True, True]


def test_wrong_shapes_are_one_clear_error(trained):
    model = load_model(trained)
    with pytest.raises(InputError, match=r"flux must have shape \(n, 186\), not \(186,\)"):
        model.predict(np.ones(186))
    with pytest.raises(InputError, match="as many rows"):
        model.predict(np.ones((2, 186)), np.ones((1, 186)))
    with pytest.raises(InputError, match="batch_size"):
        model.predict(np.ones((2, 186)), batch_size=0)
    with pytest.raises(InputError, match="numbers"):
        model.predict([["a"] * 186])


def test_settings_of_the_process_stay(trained):
    options, filters = np.get_printoptions(), list(warnings.filters)
    load_model(trained).predict(np.ones((2, 186)))
    assert np.get_printoptions() == options
    assert warnings.filters == filters


def test_models_are_kept_and_shared_by_threads(folder):
    flux = make_galaxies(20, seed=4)[0].flux
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(load_model, [folder] * 8))
        assert all(model is models[0] for model in models)
        found = list(pool.map(lambda model: model.predict(flux).redshift, models))
    assert all(np.array_equal(z, found[0]) for z in found)
    assert load_model(str(folder)) is models[0]
    assert load_model(models[0]) is models[0]


# --- names ------------------------------------------------------------------------------------


def test_names_aliases_and_suggestions(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_BUNDLED", tmp_path / "models")
    assert available_models() == []
    with pytest.raises(ModelError, match="available: none"):
        load_model("default")
    for name in ("kiraleos2023", DEFAULT_MODEL):
        shutil.copytree(trained, tmp_path / "models" / name)
    (tmp_path / "models" / "not_a_model").mkdir()
    assert available_models() == ["kiraleos2023", DEFAULT_MODEL]
    assert load_model().folder.name == DEFAULT_MODEL
    with pytest.raises(ModelError) as error:
        load_model("kiraleos203")
    text = one_line(error)
    assert f"kiraleos2023, {DEFAULT_MODEL}" in text
    assert "did you mean 'kiraleos2023'?" in text


def test_wrong_places_are_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"holds no manifest\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="a name or a folder, not a int"):
        load_model(3)


# --- integrity --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["network.onnx", "weights.keras", "scaler.json", "model_card.md"])
@pytest.mark.parametrize("how", ["changed", "cut", "missing"])
def test_a_file_that_is_not_the_one_of_the_manifest(folder, name, how):
    path = folder / name
    data = bytearray(path.read_bytes())
    if how == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-10])
    else:
        path.unlink()
    with pytest.raises(ModelError if how == "missing" else ModelIntegrityError) as error:
        load_model(folder)
    assert name in one_line(error)


def test_a_change_after_loading_is_noticed(folder):
    load_model(folder)
    path = folder / "weights.keras"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelIntegrityError):
        load_model(folder)


@pytest.mark.parametrize(
    "name", ["../weights.keras", "/etc/passwd", "a/b", "..", "a\\b", ".hidden", "", "C:x", 7]
)
def test_names_that_leave_the_folder_are_refused(folder, name):
    files = json.loads((folder / "manifest.json").read_text())["files"]
    files["weights"]["name"] = name
    edit_manifest(folder, files=files)
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert "plain file name" in one_line(error)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format version 2 is newer"),
        ({"format_version": 0}, "unknown format version 0"),
        ({"quantiles": 3}, "unknown field 'quantiles'"),
        ({"n_flux": 240}, "made for 240 fluxes"),
        ({"n_flux": True}, "'n_flux' has a value of the wrong kind"),
        ({"engine": "warp"}, "unknown engine 'warp'"),
        ({"engine": ["onnx"]}, "'engine' has a value of the wrong kind"),
        ({"redshift_range": [0.6, 0.0]}, "two rising numbers"),
        ({"redshift_range": ["0", "1"]}, "two rising numbers"),
        ({"flux_tolerance": -1}, "flux_tolerance"),
        ({"grid": {"bp": [325, 680]}}, "unusable grid"),
        ({"grid": {"bp": [1, 2, 3], "rp": [616, 1050]}}, "unusable grid"),
        ({"grid": {"bp": 3, "rp": [616, 1050]}}, "unusable grid"),
        ({"engine": "keras"}, "unknown engine 'keras'"),
        ({"files": {}}, "no file is listed for 'graph'"),
        ({"name": None}, "'name' has a value of the wrong kind"),
    ],
)
def test_unusable_manifests(folder, changes, words):
    edit_manifest(folder, **changes)
    with pytest.raises(ModelError) as error:
        load_model(folder)
    text = one_line(error)
    assert words in text
    assert "manifest.json" in text


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b" " * 2_000_000])
def test_unreadable_manifests(folder, data):
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert "manifest.json" in one_line(error)


def test_a_missing_field_is_named(folder):
    content = json.loads((folder / "manifest.json").read_text())
    del content["trained_on"]
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="'trained_on' is missing"):
        load_model(folder)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nothing", "not a scaler file"),
        (b'{"kind": "magic", "minimum": [], "maximum": []}', "unknown kind of scaler 'magic'"),
        (b'{"kind": "minmax", "minimum": [0], "maximum": [1]}', "186 finite"),
        (b'{"kind": "minmax", "minimum": [["a"]], "maximum": [1]}', "not a scaler file"),
    ],
)
def test_unusable_scalers(folder, data, words):
    replace_file(folder, "scaler", data)
    with pytest.raises(ModelError, match=words):
        load_model(folder)


def test_a_scaler_keeps_every_digit():
    flux = np.random.default_rng(5).normal(size=(9, 186)) * np.pi
    scaler = MinMaxScaler.fit(flux)
    again = parse_scaler(scaler.to_json(), "x")
    assert np.array_equal(again.minimum, flux.min(axis=0))
    assert np.array_equal(again.maximum, flux.max(axis=0))
    constant = MinMaxScaler(np.ones(186), np.ones(186))
    assert np.array_equal(
        constant.transform(np.full((1, 186), 3.0))["flux"], np.full((1, 186), 2.0)
    )


# --- unsafe files -----------------------------------------------------------------------------


def save_network(layers: list, folder: Path) -> bytes:
    import keras

    path = folder / "network.keras"
    keras.Sequential([keras.Input((186, 1)), *layers]).save(path)
    return path.read_bytes()


@needs_keras
def test_a_lambda_layer_is_refused_before_it_runs(folder, tmp_path):
    import keras

    layers = [keras.layers.Lambda(lambda x: x * 2), keras.layers.Flatten(), keras.layers.Dense(1)]
    replace_file(folder, "weights", save_network(layers, tmp_path))
    with pytest.raises(ModelError) as error:
        load_model(folder)
    assert "Lambda" in one_line(error)


def edit_archive(data: bytes, edit) -> bytes:
    """Rewrite the members of a .keras archive; ``edit`` changes the dictionary of them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def name_os_system(members):
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
    members["config.json"] = json.dumps(config).encode()


def name_registered_class(members):
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["registered_name"] = "theirs>Conv1D"
    members["config.json"] = json.dumps(config).encode()


def use_a_function(members):
    config = json.loads(members["config.json"])
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "builtins",
        "class_name": "function",
        "config": "eval",
        "registered_name": "function",
    }
    members["config.json"] = json.dumps(config).encode()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (name_os_system, "os.system"),
        (name_registered_class, "theirs>Conv1D"),
        (use_a_function, "function"),
        (lambda members: members.update({"assets/run.py": b"print()"}), "nothing else"),
        (lambda members: members.update({"config.json": b"{" + b" " * 2_000_000}), "too large"),
        (lambda members: members.update({"config.json": b"{"}), "not a readable Keras 3 archive"),
    ],
)
def test_archives_that_name_anything_else_are_refused(folder, edit, words):
    weights = (folder / "weights.keras").read_bytes()
    replace_file(folder, "weights", edit_archive(weights, edit))
    with pytest.raises(ModelError) as error:
        load_model(folder)
    text = one_line(error)
    assert words in text
    assert "weights.keras" in text


def test_other_files_as_weights_are_refused(folder):
    replace_file(folder, "weights", b"\x80\x04cos\nsystem\n.")
    with pytest.raises(ModelError, match="not a readable Keras 3 archive"):
        load_model(folder)


@needs_keras
def test_weights_that_link_to_other_files_are_refused(folder):
    import h5py

    def link(members):
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "r+") as weights:
            del weights["layers/dense/vars/0"]
            weights["layers/dense/vars/0"] = h5py.ExternalLink("/tmp/other.h5", "/x")
        members["model.weights.h5"] = stream.getvalue()

    weights = (folder / "weights.keras").read_bytes()
    with pytest.raises(ModelError, match="hold a link"):
        KerasEngine(edit_archive(weights, link), "weights.keras", SHAPES)


@needs_keras
def test_networks_of_other_inputs_are_refused(tmp_path):
    import keras

    path = tmp_path / "network.keras"
    keras.Sequential([keras.Input((100, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]).save(
        path
    )
    with pytest.raises(ModelError) as error:
        KerasEngine(path.read_bytes(), "weights.keras", SHAPES)
    assert "maps inputs flux (n, 186) to (n, m), this one takes" in one_line(error)


@needs_keras
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda members: members.update({"model.weights.h5": b"x"}), "weights cannot be read"),
        (None, "maps to one output"),
    ],
)
def test_networks_that_cannot_serve_are_one_clear_error(folder, tmp_path, edit, words):
    if edit is None:
        import keras

        data = save_network([keras.layers.Conv1D(1, 3)], tmp_path)
    else:
        data = edit_archive((folder / "weights.keras").read_bytes(), edit)
    with pytest.raises(ModelError) as error:
        KerasEngine(data, "weights.keras", SHAPES)
    assert words in one_line(error)


ODD = [None, [], {}, -1, 1e308, "", "x", True, [None], {"a": 1}, "../x", 10**30, "/dev/zero"]


def list_places(value, before=()):
    """Where a manifest has something, up to three of each list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for key, inner in items:
        yield (*before, key)
        if isinstance(inner, dict | list):
            yield from list_places(inner, (*before, key))


def test_odd_manifests_are_refused_in_words_or_do_no_harm(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for number, (*path, key) in enumerate([*list_places(manifest)][::3]):
        odd = copy.deepcopy(manifest)
        holder = odd
        for name in path:
            holder = holder[name]
        holder[key] = ODD[number % len(ODD)]
        (folder / "manifest.json").write_text(json.dumps(odd))
        with suppress(ModelError, InputError):
            model = load_model(folder)
            assert repr(model)
            model.predict(np.ones((2, 186)), np.ones((2, 186)))
