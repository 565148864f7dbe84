"""What runs the bundled network best: several engines, side by side in one run.

    python benchmarks/inference.py [--spectra 1024] [--rounds 5] [--engines onnx keras ...]
                                   [--python jax=OTHER_ENVIRONMENT/bin/python]

All engines run the network of 2023, but for "default": that is the default model with all that it
does beside its network.

Each engine has a process of its own. For the start, fresh processes take turns: seconds from the
start of Python to the first prediction, and the memory resident then. For the speed, processes
that stay take turns, so that what else the machine does meets all alike; each round gives a ratio
to Keras's `predict_on_batch` at its own best batch size, and the median of these is printed.
Agreement is the largest difference from `predict_on_batch` on the same inputs. The size is that of
the packages which an engine needs beside those that this package needs anyway.

Engines that are not installed (`pip install ai-edge-litert`, `jax`) are left out; `--python` names
another environment for one of them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "gaia_redshift" / "data" / "models" / "kiraleos2023"
BATCH_SIZES = (16, 64, 256)
REFERENCE = "keras"

Run = Callable[[Any, int], Any]


# --- engines: each returns a function of inputs (n, 186) and a batch size ------------------------


def open_onnx(folder: Path) -> Run:
    """Open this package's own engine."""
    from gaia_redshift.model.onnx_engine import OnnxEngine

    graph = (MODEL / "network.onnx").read_bytes()
    return OnnxEngine(graph, "graph", {"flux": (186,)}, bounded=False).run


def open_package(folder: Path) -> Run:
    """The same as a user gets it: checks, scaling and flags with it."""
    from gaia_redshift import load_model
    from gaia_redshift.model import RedshiftModel

    model: RedshiftModel = load_model("kiraleos2023")
    low, high = model.scaler.minimum, model.scaler.maximum

    def run(inputs: Any, size: int) -> Any:
        return model.predict(low + inputs * (high - low), batch_size=size).redshift[:, None]

    return run


def open_default(folder: Path) -> Run:
    """The default model as a user gets it: errors in; intervals, flags and novelty out."""
    import numpy as np

    from gaia_redshift import load_model

    model = load_model("default")

    def run(inputs: Any, size: int) -> Any:
        flux = 2 + 3 * inputs
        return model.predict(flux, np.full_like(flux, 0.3), batch_size=size).redshift[:, None]

    return run


def cut(call: Callable[[Any], Any]) -> Run:
    """Make a function of one batch one of many."""

    def run(inputs: Any, size: int) -> Any:
        import numpy as np

        parts = [call(inputs[i : i + size, :, None]) for i in range(0, len(inputs), size)]
        return np.concatenate(parts)

    return run


def open_keras(folder: Path) -> Run:
    """`predict_on_batch`: `predict` stalls in many of its runs and would flatter the others."""
    import keras

    return cut(keras.saving.load_model(MODEL / "weights.keras", compile=False).predict_on_batch)


def open_function(folder: Path) -> Run:
    """Keras compiled into one TensorFlow function, this package's engine without a graph."""
    from gaia_redshift.model.keras_engine import KerasEngine

    return KerasEngine((MODEL / "weights.keras").read_bytes(), "keras", {"flux": (186,)}).run


def open_jax(folder: Path) -> Run:
    """Keras on JAX, compiled."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    import numpy as np

    model = keras.saving.load_model(MODEL / "weights.keras", compile=False)
    weights = [v.value for v in model.trainable_variables]
    rest = [v.value for v in model.non_trainable_variables]
    call = jax.jit(lambda x: model.stateless_call(weights, rest, x, training=False)[0])
    return cut(lambda x: np.asarray(call(x)))


def open_litert(folder: Path) -> Run:
    """LiteRT (once TensorFlow Lite), from a file that `convert` wrote."""
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(str(folder / "network.tflite"), num_threads=len(os.sched_getaffinity(0)))
    source = network.get_input_details()[0]["index"]
    result = network.get_output_details()[0]["index"]
    last = None

    def call(x: Any) -> Any:
        nonlocal last
        if x.shape != last:
            network.resize_tensor_input(source, x.shape)
            network.allocate_tensors()
            last = x.shape
        network.set_tensor(source, x)
        network.invoke()
        return network.get_tensor(result)

    return cut(call)


def open_numpy(folder: Path) -> Run:
    """Nothing but NumPy: convolutions as products of matrices."""
    import numpy as np

    sys.path.insert(0, str(ROOT / "tests" / "data"))
    import make_frozen

    layers = [
        (kind, kernel.astype("f4"), bias.astype("f4"))
        for kind, kernel, bias in make_frozen.read_parameters(MODEL / "weights.keras")
    ]

    def call(x: Any) -> Any:
        for i, (kind, kernel, bias) in enumerate(layers):
            if kind == "Conv1D":
                width, depth, filters = kernel.shape
                length = x.shape[1] - width + 1
                shape = (len(x), length, width * depth)
                strides = [x.itemsize * n for n in (x.shape[1] * depth, depth, 1)]
                windows = np.lib.stride_tricks.as_strided(x, shape, strides)
                windows = np.ascontiguousarray(windows).reshape(-1, width * depth)
                x = (windows @ kernel.reshape(-1, filters) + bias).reshape(len(x), length, filters)
            elif kind == "MaxPooling1D":
                half = x.shape[1] // 2
                x = np.maximum(x[:, 0 : 2 * half : 2], x[:, 1 : 2 * half : 2])
            elif kind == "Flatten":
                x = x.reshape(len(x), -1)
            elif kind == "Dense":
                x = x @ kernel + bias
            if kind in ("Conv1D", "Dense") and i < len(layers) - 1:
                np.maximum(x, 0, out=x)
        return x

    return cut(lambda x: call(np.ascontiguousarray(x)))


ENGINES: dict[str, tuple[str, Callable[[Path], Run], tuple[str, ...]]] = {
    "package": ("gaia_redshift (ONNX Runtime)", open_package, ("onnxruntime",)),
    "onnx": ("ONNX Runtime", open_onnx, ("onnxruntime",)),
    "default": ("gaia_redshift, default model", open_default, ("onnxruntime",)),
    "litert": ("LiteRT", open_litert, ("ai-edge-litert",)),
    "function": ("TensorFlow function", open_function, ("keras", "tensorflow")),
    "keras": ("Keras predict_on_batch", open_keras, ("keras", "tensorflow")),
    "jax": ("Keras on JAX", open_jax, ("keras", "jax")),
    "numpy": ("NumPy", open_numpy, ()),
}
"""Name -> words, how it is opened, the packages that it needs."""


def convert(path: Path) -> None:
    """Write the network for LiteRT, with TensorFlow's own converter."""
    import keras
    import tensorflow as tf

    model = keras.saving.load_model(MODEL / "weights.keras", compile=False)
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


# --- measuring ----------------------------------------------------------------------------------


def draw_inputs(n: int) -> Any:
    """Made-up scaled fluxes, shape (n, 186)."""
    import numpy as np

    return np.random.default_rng(0).uniform(0, 1, (n, 186)).astype(np.float32)


def measure_memory() -> float:
    """Resident memory of this process, MB (Linux; elsewhere its peak)."""
    try:
        text = Path("/proc/self/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_size(names: tuple[str, ...]) -> float:
    """Size on disk of packages and all that they require, MB, beside what is needed anyway."""
    anyway = ["astropy", "astroquery", "gaiaxpy", "h5py", "matplotlib", "pandas", "pyarrow", "tqdm"]
    common = find_distributions(anyway)
    sizes = 0
    for name in find_distributions(names) - common:
        for file in importlib.metadata.distribution(name).files or []:
            path = Path(str(file.locate()))
            sizes += path.stat().st_size if path.is_file() else 0
    return sizes / 1e6


def find_distributions(names: Any) -> set[str]:
    """Names of the installed packages that these need, themselves included."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        left += [re.split(r"[^\w.-]", line)[0] for line in required if "extra ==" not in line]
    return found


def serve(engine: str, folder: Path) -> None:
    """Open an engine, predict once, say so, then run what is asked for."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever an engine prints is not an answer
    run = ENGINES[engine][1](folder)
    run(draw_inputs(1), 64)
    answer: Any = measure_memory()
    while True:
        pickle.dump(answer, pipe)
        pipe.flush()
        line = sys.stdin.readline().split()
        if not line:
            return
        if line[0] == "size":
            answer = measure_size(ENGINES[engine][2])
            continue
        n, size = map(int, line[1:])
        inputs = draw_inputs(n)
        if line[0] == "warm":
            run(inputs[: 2 * size], size)
            answer = run(inputs, size)
            continue
        start = time.perf_counter()
        run(inputs, size)
        answer = n / (time.perf_counter() - start)


class Worker:
    """A process with one engine."""

    def __init__(self, engine: str, folder: Path, pythons: Mapping[str, str]) -> None:
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [pythons.get(engine, sys.executable), __file__, "--serve", engine, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "ORT_DISABLE_TELEMETRY": "1"},
        )
        self.memory: float = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        self.seconds = time.perf_counter() - start

    def ask(self, *words: object) -> Any:
        """Send a line, wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)  # type: ignore[arg-type]

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()


def measure(engines: list[str], args: argparse.Namespace, folder: Path) -> None:
    """Do the rounds and print the table."""
    import numpy as np

    pythons = dict(part.split("=", 1) for part in args.python)
    starts: dict[str, list[Worker]] = {}
    usable = []
    for turn in range(args.rounds):
        for engine in engines if turn == 0 else usable:
            try:
                worker = Worker(engine, folder, pythons)
            except EOFError:
                print(f"{ENGINES[engine][0]}: not installed, left out", file=sys.stderr)
                continue
            starts.setdefault(engine, []).append(worker)
            if turn == 0:
                usable.append(engine)
            if turn < args.rounds - 1:
                worker.stop()

    workers = {engine: starts[engine][-1] for engine in usable}
    sizes = {engine: worker.ask("size") for engine, worker in workers.items()}
    found = {engine: worker.ask("warm", 512, 64) for engine, worker in workers.items()}
    speeds: dict[tuple[str, int], list[float]] = {}
    for turn in range(args.rounds):
        for size in BATCH_SIZES:
            # Another order each time: nobody always follows the heaviest.
            for engine in np.random.default_rng([turn, size]).permutation(usable):
                workers[engine].ask("warm", min(size, 256), size)
                speed = workers[engine].ask("run", max(args.spectra, size), size)
                speeds.setdefault((engine, size), []).append(speed)
    for worker in workers.values():
        worker.stop()

    best = max(BATCH_SIZES, key=lambda size: statistics.median(speeds[REFERENCE, size]))
    print(
        f"\nreference: predict_on_batch at {best}; {args.rounds} rounds, {os.cpu_count()} cores\n"
    )
    print("| engine | first prediction, s | sooner | resident, MB | packages, MB |", end="")
    print(" largest difference |", *(f"speed at {size} |" for size in BATCH_SIZES))
    print("|---|" + "---|" * (5 + len(BATCH_SIZES)))
    for engine in usable:
        cells = [
            ENGINES[engine][0],
            f"{statistics.median(w.seconds for w in starts[engine]):.2f}",
            format_median(
                b.seconds / a.seconds
                for a, b in zip(starts[engine], starts[REFERENCE], strict=True)
            ),
            f"{statistics.median(w.memory for w in starts[engine]):.0f}",
            f"{sizes[engine]:.0f}",
            # Another network has other redshifts.
            "" if engine == "default" else f"{np.abs(found[engine] - found[REFERENCE]).max():.0e}",
        ]
        for size in BATCH_SIZES:
            ratios = (
                a / b for a, b in zip(speeds[engine, size], speeds[REFERENCE, best], strict=True)
            )
            median = statistics.median(speeds[engine, size])
            cells.append(f"{format_median(ratios)} ({median:,.0f}/s)")
        print("| " + " | ".join(cells) + " |")


def format_median(ratios: Any) -> str:
    """Middle of some ratios."""
    return f"{statistics.median(ratios):.2f}"


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description="What runs the bundled network best.")
    parser.add_argument("--spectra", type=int, default=1024, help="per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PYTHON")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--convert", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], Path(args.serve[1]))
    elif args.convert:
        convert(Path(args.convert))
    else:
        engines = [REFERENCE, *(name for name in args.engines if name != REFERENCE)]
        with tempfile.TemporaryDirectory() as folder:
            if "litert" in engines:
                command = [sys.executable, __file__, "--convert", f"{folder}/network.tflite"]
                subprocess.run(command, check=False, capture_output=True)
            measure(engines, args, Path(folder))


if __name__ == "__main__":
    main()
