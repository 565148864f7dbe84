"""Where a network runs. No GPU is at hand: a faked list of devices stands for one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from gaia_redshift import load_model, predict_redshift, predict_to_file
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model import keras_engine, registry

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.fixture
def gpu(monkeypatch):
    """Say that there is a GPU; Keras then runs on the processor."""
    monkeypatch.setattr(keras_engine, "_list_gpus", lambda backend: ["a GPU"])
    monkeypatch.setattr(registry, "_loaded", {})


def draw_spectra(n):
    rng = np.random.default_rng(5)
    shape = 5 + np.cumsum(rng.normal(0, 0.1, (n, 186)), axis=1)
    return shape, np.full_like(shape, 0.2)


@needs_keras
@pytest.mark.parametrize("name", ["default", "kiraleos2023"])
def test_a_gpu_gives_the_same_redshifts(gpu, name):
    flux, error = draw_spectra(150)
    there = load_model(name, device="gpu")
    here = load_model(name, device="cpu")
    assert (there.device, here.device) == ("gpu", "cpu")
    assert there.sha256 == there.manifest["files"]["weights"]["sha256"] != here.sha256
    found, expected = there.predict(flux, error), here.predict(flux, error)
    assert isinstance(there._gpu_engine, keras_engine.KerasEngine)
    assert there._engine is None
    np.testing.assert_allclose(found.redshift, expected.redshift, atol=1e-4)
    np.testing.assert_array_equal(found.flags, expected.flags)
    assert load_model(name, device="gpu") is there


ON_JAX = """
import sys
import numpy as np
from gaia_redshift import load_model
from gaia_redshift.model import keras_engine
keras_engine._list_gpus = lambda backend: [backend]  # Keras then runs on the processor
vectors = np.load(sys.argv[1])
for name in ("default", "kiraleos2023"):
    there, here = load_model(name, device="gpu"), load_model(name, device="cpu")
    for n in (0, 1, 150):  # the last batch is shorter than the others
        flux, error = vectors["flux"][:n], vectors["error"][:n]
        found = there.predict(flux, error, batch_size=64)
        expected = here.predict(flux, error)
        np.testing.assert_allclose(found.redshift, expected.redshift, atol=1e-4)
        np.testing.assert_array_equal(found.flags, expected.flags)
assert there._gpu_engine is not None
assert "tensorflow" not in sys.modules
"""


@pytest.mark.skipif(
    not (importlib.util.find_spec("jax") and importlib.util.find_spec("keras")),
    reason="JAX and Keras are not installed",
)
def test_jax_gives_the_same_redshifts(tmp_path):
    flux, error = draw_spectra(150)
    np.savez(tmp_path / "vectors.npz", flux=flux, error=error)
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path / "vectors.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@needs_keras
def test_precision_is_full_on_the_gpu_and_the_users_setting_comes_back(gpu):
    from tensorflow.config import experimental

    model = load_model("default", device="gpu")
    model.predict(*draw_spectra(1))
    seen = []
    engine = model._gpu_engine
    call = engine._call

    def record(batch):
        seen.append(experimental.tensor_float_32_execution_enabled())
        return call(batch)

    engine._call = record
    before = experimental.tensor_float_32_execution_enabled()
    model.predict(*draw_spectra(3))
    assert seen == [False]
    assert experimental.tensor_float_32_execution_enabled() == before


@needs_keras
def test_auto_takes_the_gpu_for_large_jobs_alone(gpu, monkeypatch):
    keras_engine.import_keras()
    monkeypatch.setattr(registry, "FEWEST_FOR_GPU", 20)
    model = load_model("default")
    assert model.device == "auto"
    model.predict(*draw_spectra(19))
    assert model._gpu_engine is None
    model.predict(*draw_spectra(20))
    assert model._gpu_engine is not None


@needs_keras
def test_without_a_gpu_it_is_one_clear_line(monkeypatch, tmp_path):
    monkeypatch.setattr(keras_engine, "_list_gpus", lambda backend: [])
    for call in (
        lambda: load_model(device="gpu"),
        lambda: predict_redshift(np.ones(186), device="gpu"),
        lambda: predict_to_file("catalogs/x.csv", tmp_path / "z.csv", device="gpu"),
    ):
        with pytest.raises((ModelError, InputError)) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"sees no GPU here: install .*\[train\].*device='cpu'"):
        load_model(device="gpu")
    assert load_model(device="auto").device == "cpu"


def test_without_keras_it_says_what_to_install(monkeypatch):
    def fail():
        raise ModelError("keras is not installed")

    monkeypatch.setattr(keras_engine, "import_keras", fail)
    with pytest.raises(ModelError, match=r"no GPU can be used .*pip install"):
        load_model(device="gpu")


@needs_keras
def test_an_unknown_backend_is_one_clear_line(tmp_path):
    script = "from gaia_redshift import load_model; load_model(device='gpu')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "ModelError: no GPU can be used" in done.stderr.splitlines()[-1]


def test_other_names_are_refused():
    with pytest.raises(InputError, match="auto"):
        load_model(device="cuda")
    with pytest.raises(InputError, match="device must be one of"):
        predict_redshift(np.ones(186), device="tpu")


def test_auto_imports_no_keras():
    code = (
        "import sys, numpy as np, gaia_redshift\n"
        "model = gaia_redshift.load_model(device='auto')\n"
        "assert model.device == 'cpu'\n"
        "model.predict(np.ones((3, 186)))\n"
        "assert 'keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
