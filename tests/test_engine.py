"""The light engine: what it returns is what Keras returns, and only plain graphs get in."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gaia_redshift import load_model
from gaia_redshift.errors import ModelError
from gaia_redshift.model.keras_engine import KerasEngine
from gaia_redshift.model.onnx_engine import OnnxEngine

pytestmark = [
    # Keras 3.15 with NumPy 2.4, when it writes a network.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Python 3.12 warns of every fork of a process with threads: the tests fork on purpose.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

needs_keras = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("onnx") is None,
    reason="TensorFlow or onnx is not installed",
)
SHAPES = {"flux": (186,)}


@pytest.fixture(scope="module")
def bundled() -> bytes:
    return (load_model("kiraleos2023").folder / "network.onnx").read_bytes()


@pytest.fixture(scope="module")
def engine(bundled):
    return OnnxEngine(bundled, "network.onnx", SHAPES)


def draw_inputs(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 1.1, (n, 186)).astype(np.float32)


def run_python(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


# --- predicting -------------------------------------------------------------------------------


def test_predicting_imports_neither_tensorflow_nor_keras_and_is_quiet(tmp_path):
    """From a table to redshifts, in a fresh process; nothing is sent or kept either."""
    home = tmp_path / "home"
    home.mkdir()
    code = """
import sys
import numpy as np
import gaia_redshift
row = {"source_id": [1], "bp_coefficients": [np.eye(55)[0] * 100],
       "rp_coefficients": [np.eye(55)[0] * 100]}
model = gaia_redshift.load_model()
heavy = {"tensorflow", "keras", "onnxruntime", "h5py", "gaiaxpy", "pandas"} & set(sys.modules)
assert not heavy, heavy
table = gaia_redshift.predict_table(row)
assert np.isfinite(table["redshift_cnn"][0])
heavy = {"tensorflow", "keras", "jax", "torch", "onnx"} & set(sys.modules)
assert not heavy, heavy
"""
    # The engine's own switches for its telemetry are off, as on a user's machine.
    unset = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HOME": str(home), "MPLCONFIGDIR": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = run_python(code, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    kept = [path for path in home.rglob("*") if "onnxruntime" in str(path).lower()]
    assert not kept, "ONNX Runtime's telemetry is on"
    assert not list(home.rglob("*Microsoft*"))


def test_the_same_input_gives_the_same_bits(bundled, engine):
    inputs = draw_inputs(150)
    first = engine.run(inputs)
    assert np.array_equal(engine.run(inputs), first)
    again = OnnxEngine(bundled, "network.onnx", SHAPES)
    assert np.array_equal(again.run(inputs), first)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(engine.run, [inputs] * 8):
            assert np.array_equal(found, first)


def test_batches_cut_the_work_and_not_the_result(engine):
    inputs = draw_inputs(130)
    whole = engine.run(inputs, batch_size=130)
    for size in (1, 7, 64, 1000):
        np.testing.assert_allclose(engine.run(inputs, size), whole, rtol=0, atol=1e-6)
    assert engine.run(inputs[:0]).shape == (0, 1)
    assert np.array_equal(engine.run({"flux": inputs}, 130), whole)


def test_batches_are_the_same_with_any_number_of_threads(engine, monkeypatch):
    """So the bits are, too."""
    sizes = []
    run_batch = engine._run_batch
    monkeypatch.setattr(
        engine, "_run_batch", lambda batch: sizes.append(len(batch["flux"])) or run_batch(batch)
    )
    found = []
    for n_threads in (1, 2, 5):
        monkeypatch.setattr(engine._crew, "_most", n_threads)
        engine.run(draw_inputs(150))
        found.append(sorted(sizes))
        sizes.clear()
    assert found[0] == found[1] == found[2]


def predict_in_child(engine, inputs, queue):
    queue.put(engine.run(inputs))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_predicts(engine):
    """The threads of a session do not survive a fork; without care the child waits for ever."""
    inputs = draw_inputs(70)
    expected = engine.run(inputs)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=predict_in_child, args=(engine, inputs, queue))
    child.start()
    try:
        assert np.array_equal(queue.get(timeout=60), expected)
    finally:
        child.join(10)
        child.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("predicts", [False, True])
def test_a_forked_process_ends(predicts):
    """It clears everything away as it exits, the parent's session included, if that is let go."""
    code = f"""
import os, sys, time
import numpy as np
import gaia_redshift
model = gaia_redshift.load_model()
model.predict(np.ones((70, 186)))
child = os.fork()
if not child:
    if {predicts}:
        model.predict(np.ones((70, 186)))
    sys.exit(7)
for _ in range(600):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
"""
    done = run_python(code)
    assert done.returncode == 7, done.stderr


def test_a_missing_runtime_is_one_clear_error():
    done = run_python(
        "import sys, gaia_redshift\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Missing(MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "try:\n"
        "    gaia_redshift.predict_redshift([[1.0] * 186])\n"
        "except gaia_redshift.errors.ModelError as error:\n"
        "    print(error)\n"
    )
    assert done.stdout.count("\n") == 1, done.stderr
    assert "pip install onnxruntime" in done.stdout


def test_inputs_that_do_not_fit_are_refused(bundled, engine):
    for shapes in ({"flux": (100,)}, {"flux": (186, 2)}, SHAPES | {"flux_error": (186,)}):
        with pytest.raises(ModelError, match=r"network\.onnx: a network here maps inputs"):
            OnnxEngine(bundled, "network.onnx", shapes)
    with pytest.raises(ValueError, match="the network takes flux"):
        engine.run({"flux": draw_inputs(1), "error": draw_inputs(1)})


# --- graphs as Keras computes them ------------------------------------------------------------


def build_chain(*stack, shape=(37, 3)):
    import keras

    return keras.Sequential([keras.Input(shape, name="x"), *stack])


def build_convolution(**options):
    import keras

    layers = [
        keras.layers.Conv1D(8, 5, **({"activation": "gelu"} | options)),
        keras.layers.Conv1D(4, 3, padding="same", activation="tanh"),
    ]
    return build_chain(*layers, keras.layers.Flatten(), keras.layers.Dense(2))


def build_pooling(kind, **options):
    import keras

    pool = getattr(keras.layers, kind)(**options)
    layers = [keras.layers.Conv1D(6, 3, activation="relu"), pool, keras.layers.Flatten()]
    return build_chain(*layers, keras.layers.Dense(3))


def build_residual():
    """Small, of the kind that a redshift distribution is meant to come from."""
    import keras

    layers = keras.layers
    flux, error = keras.Input((186, 1), name="flux"), keras.Input((186, 1), name="flux_error")
    level = keras.Input((2,), name="level")
    x = layers.Concatenate()([flux, error])
    x = layers.Conv1D(16, 7, strides=2, padding="same", name="stem")(x)
    for i, (filters, stride) in enumerate([(16, 1), (32, 2), (32, 1)]):
        y = layers.Activation("relu")(x)
        y = layers.Conv1D(filters, 5, strides=stride, padding="same")(y)
        y = layers.Conv1D(filters, 4, padding="same", dilation_rate=1 + i % 2)(
            layers.Activation("gelu")(y)
        )
        if stride > 1:
            x = layers.Conv1D(filters, 1, strides=stride, padding="same", use_bias=False)(x)
        x = layers.Dropout(0.1)(layers.Add()([x, y]))
    x = layers.Conv1D(4, 1)(x)
    x = layers.Concatenate()([layers.Flatten()(x), layers.Dense(8, activation="relu")(level)])
    x = layers.Dense(64, activation="gelu")(layers.Dropout(0.2)(x))
    return keras.Model([flux, error, level], layers.Dense(150)(x))


def build_shared():
    """One layer called twice, and two paths of different layout that meet."""
    import keras

    layers = keras.layers
    flux = keras.Input((40, 2), name="flux")
    both = layers.Conv1D(4, 3, padding="same")
    x = both(layers.Conv1D(2, 1)(flux))
    y = layers.Add()([x, both(flux), layers.Conv1D(4, 1, activation="sigmoid")(flux)])
    return keras.Model(flux, layers.Dense(2)(layers.Flatten()(layers.Add()([x, y]))))


NETWORKS = {
    "valid": build_convolution,
    "same": lambda: build_convolution(padding="same"),
    "stride 2": lambda: build_convolution(padding="same", strides=2),
    "stride 3": lambda: build_convolution(padding="same", strides=3, activation="softplus"),
    "dilated": lambda: build_convolution(padding="same", dilation_rate=2, use_bias=False),
    "max": lambda: build_pooling("MaxPooling1D", pool_size=2),
    "max, same": lambda: build_pooling("MaxPooling1D", pool_size=3, strides=2, padding="same"),
    "residual": build_residual,
    "shared": build_shared,
}


def fill_weights(network, seed: int = 0) -> None:
    """Random weights everywhere, also where Keras begins with zeros and ones."""
    rng = np.random.default_rng(seed)
    values = []
    for variable in network.weights:
        fan = max(1, int(np.prod(variable.shape[:-1])))
        noise = rng.normal(size=variable.shape) / np.sqrt(fan)
        values.append(np.abs(noise) + 0.1 if "variance" in variable.path else noise)
    network.set_weights(values)


@needs_keras
@pytest.mark.parametrize("kind", NETWORKS)
def test_graphs_compute_what_keras_computes(kind, tmp_path):
    from gaia_redshift.train.graph import build_graph

    network = NETWORKS[kind]()
    fill_weights(network)
    rng = np.random.default_rng(1)
    inputs = {
        tensor.name: rng.normal(size=(5, *tensor.shape[1:])).astype(np.float32)
        for tensor in network.inputs
    }
    shapes = {name: array.shape[1:] for name, array in inputs.items()}
    found = OnnxEngine(build_graph(network), kind, shapes).run(inputs)
    values = list(inputs.values())
    expected = network.predict_on_batch(values if len(values) > 1 else values[0])
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    path = tmp_path / "network.keras"  # and the Keras engine opens what it saves
    network.save(path)
    again = KerasEngine(path.read_bytes(), kind, shapes)
    np.testing.assert_allclose(again.run(inputs, 3), expected, rtol=1e-5, atol=1e-5)


@needs_keras
def test_a_network_gives_the_same_bytes_again():
    from gaia_redshift.train.graph import build_graph

    network = build_residual()
    assert build_graph(network) == build_graph(network)


@needs_keras
def test_layers_that_are_not_known_are_refused():
    import keras

    from gaia_redshift.train.graph import build_graph

    layers = keras.layers
    for layer, words in (
        (layers.Lambda(lambda x: x * 2), "Lambda"),
        (layers.Conv1D(2, 3, padding="causal"), "'causal'"),
        (layers.Conv1D(2, 3, activation="mish"), "'mish'"),
        (layers.Dense(2, dtype="mixed_float16"), "float16"),
        (layers.Dense(2), "more than one dimension"),
        (layers.LayerNormalization(), "LayerNormalization"),
    ):
        with pytest.raises(ModelError, match=words):
            build_graph(build_chain(layer, layers.Flatten(), layers.Dense(1)))


@needs_keras
def test_a_graph_that_differs_from_keras_is_not_written(tmp_path, monkeypatch):
    from gaia_redshift.train import graph

    network = build_convolution()
    written = graph.build_graph(network)
    fill_weights(network)
    monkeypatch.setattr(graph, "build_graph", lambda network: written)
    with pytest.raises(ModelError, match="differ from Keras's by up to"):
        graph.write_graph(tmp_path / "network.onnx", network)
    assert not list(tmp_path.iterdir())


# --- unsafe files -----------------------------------------------------------------------------


def make_message(*fields: tuple[int, object]) -> bytes:
    """Encode a Protocol Buffers message: integers as varints, the rest as bytes."""

    def encode(value: int) -> bytes:
        parts = []
        value &= (1 << 64) - 1
        while value > 0x7F:
            parts.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*parts, value])

    data = b""
    for number, value in fields:
        if isinstance(value, int):
            data += encode(number << 3) + encode(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            data += encode(number << 3 | 2) + encode(len(content)) + content
    return data


def make_value(name: str, *sizes: int) -> bytes:
    dimensions = [(1, make_message((2, "n"))), *((1, make_message((1, size))) for size in sizes)]
    tensor = make_message((1, 1), (2, make_message(*dimensions)))
    return make_message((1, name), (2, make_message((1, tensor))))


def make_constant(name: str, values: np.ndarray, *more: tuple[int, object]) -> bytes:
    kind = {"float32": 1, "int64": 7, "float64": 11}[values.dtype.name]
    sizes = [(1, size) for size in values.shape]
    return make_message(*sizes, (2, kind), (8, name), (9, values.tobytes()), *more)


def make_node(kind: str, inputs: str, output: str, *more: tuple[int, object]) -> bytes:
    return make_message(*((1, name) for name in inputs.split()), (2, output), (4, kind), *more)


KERNEL = make_constant("kernel", np.ones((186, 1), np.float32))
GEMM = make_node("Gemm", "x kernel", "z")


def make_model(*nodes, constants=(KERNEL,), graph=(), model=(), opset=((1, ""), (2, 20))) -> bytes:
    fields = [(1, node) for node in nodes] + [(5, constant) for constant in constants]
    fields += [(11, make_value("x", 186)), (12, make_value("z", 1)), *graph]
    return make_message((1, 9), (7, make_message(*fields)), (8, make_message(*opset)), *model)


def make_scalar(name: str, kind: int) -> bytes:
    return make_message((1, name), (2, make_message((1, make_message((1, kind), (2, b""))))))


FLAT = np.array([-1], np.int64)
INTEGER = make_message((1, make_message((1, 7), (2, make_message((1, make_message((2, "n"))))))))


def test_a_plain_graph_passes():
    found = OnnxEngine(make_model(GEMM), "network.onnx", SHAPES).run(draw_inputs(3))
    np.testing.assert_allclose(found[:, 0], draw_inputs(3).sum(axis=1), rtol=1e-5)


OUTSIDE = make_message(  # a constant whose values lie in another file
    (1, 186), (1, 1), (2, 1), (8, "kernel"), (14, 1),
    (13, make_message((1, "location"), (2, "/etc/passwd"))),
)  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x04cos\nsystem\n.",
        make_model(GEMM)[:-9],
        make_model(make_node("Unheard", "x kernel", "z")),
        make_model(make_node("Gemm", "x kernel", "z", (7, "theirs"))),
        make_model(GEMM, constants=[]),
        make_model(GEMM, GEMM),
        make_model(make_node("Loop", "x", "z")),
    ],
)
def test_graphs_that_are_none_are_refused_when_they_are_opened(data):
    with pytest.raises(ModelError, match=r"^network\.onnx: ONNX Runtime cannot open it: ") as error:
        OnnxEngine(data, "network.onnx", SHAPES)
    assert "\n" not in str(error.value)


def test_values_in_other_files_are_refused():
    with pytest.raises(ModelError, match=r"^network\.onnx: it points to other files; refused"):
        OnnxEngine(make_model(GEMM, constants=[OUTSIDE]), "network.onnx", SHAPES)


@pytest.mark.parametrize(
    "data",
    [
        make_model(make_node("Reshape", "x s", "z"), constants=[make_constant("s", FLAT)]),
        make_model(GEMM, graph=((12, make_value("x", 186)),)),
        make_model(GEMM, graph=((11, make_message((1, "i"), (2, INTEGER))),)),
    ],
)
def test_networks_map_float32_values_to_one_output(data):
    with pytest.raises(ModelError, match=r"^network\.onnx: a network here maps"):
        OnnxEngine(data, "network.onnx", SHAPES)


def test_damaged_graphs_end_in_one_clear_error_or_in_numbers(bundled):
    """Bytes changed at random, and files cut short; nothing else may come of them, and no crash."""
    small = make_model(GEMM)
    structure = [i for i in range(len(small)) if not 20 < i - small.index(KERNEL) < len(KERNEL)]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(small)
        for place in rng.choice(structure, rng.integers(1, 4)):
            data[place] = rng.integers(256)
        try:
            OnnxEngine(bytes(data), "network.onnx", SHAPES).run(draw_inputs(2))
        except ModelError:
            refused += 1
    assert refused > 100
    for end in rng.integers(1, len(bundled), 20):
        with pytest.raises(ModelError):
            OnnxEngine(bundled[:-end], "network.onnx", SHAPES)


def test_a_network_from_elsewhere_cannot_take_all_memory():
    doubling = [
        make_node(
            "Concat", f"d{i} d{i}", f"d{i + 1}", (5, make_message((1, "axis"), (3, 1), (20, 2)))
        )
        for i in range(40)
    ]
    data = make_model(
        make_node("Gemm", "x kernel", "d0"),
        *doubling,
        make_node("GlobalMaxPool", "d40", "z"),
    )
    engine = OnnxEngine(data, "network.onnx", SHAPES)
    with pytest.raises(ModelError, match=r"^network\.onnx: "):
        engine.run(draw_inputs(2))


def test_a_network_from_elsewhere_cannot_run_for_ever(monkeypatch):
    import gaia_redshift.model.onnx_engine as module

    monkeypatch.setattr(module, "_LONGEST", 0.3)
    body = make_message(
        (1, make_node("Identity", "going", "go_on")), (1, make_node("Relu", "value", "next")),
        (2, "body"),
        (11, make_scalar("i", 7)), (11, make_scalar("going", 9)), (11, make_value("value", 186)),
        (12, make_scalar("go_on", 9)), (12, make_value("next", 186)),
    )  # fmt: skip
    loop = make_node("Loop", "often yes x", "y", (5, make_message((1, "body"), (6, body), (20, 5))))
    data = make_model(
        loop,
        make_node("Gemm", "y kernel", "z"),
        constants=[
            KERNEL,
            make_message((2, 7), (8, "often"), (9, (1 << 60).to_bytes(8, "little"))),
            make_message((2, 9), (8, "yes"), (9, b"\x01")),
        ],
    )
    engine = OnnxEngine(data, "network.onnx", SHAPES)
    with pytest.raises(ModelError, match=r"takes longer than .* s; stopped"):
        engine.run(draw_inputs(2))


def test_models_that_come_with_the_package_run_without_such_bounds(tmp_path):
    import shutil

    folder = shutil.copytree(load_model("kiraleos2023").folder, tmp_path / "model")
    ours, theirs = load_model("kiraleos2023"), load_model(folder)
    flux = draw_inputs(70)
    assert np.array_equal(ours.predict(flux).redshift, theirs.predict(flux).redshift)
    assert (ours._engine._bounded, theirs._engine._bounded) == (False, True)
