"""Keras: its import for training, and a network run with it, on a GPU or as the reference.

A GPU is used through the Keras weights that every model of ours has beside its graph, by the
backend that Keras is set up for: TensorFlow, or JAX (with ``KERAS_BACKEND=jax``, or where it alone
is installed).
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model.manifest import check_links, check_weights
from gaia_redshift.model.scaler import Inputs, check_shapes, iterate_batches

__all__ = [
    "DEVICES",
    "FEWEST_FOR_GPU",
    "Device",
    "KerasEngine",
    "check_device",
    "choose_device",
    "compile_network",
    "import_keras",
    "import_keras_for_training",
]

Device = Literal["cpu", "gpu", "auto"]
DEVICES: tuple[str, ...] = get_args(Device)

FEWEST_FOR_GPU = 2048
"""Spectra in one call from which "auto" takes the GPU: fewer are done sooner on the processor."""
_INSTALL = (
    "install one of TensorFlow (pip install 'gaia-redshift[train]' 'tensorflow[and-cuda]') or JAX"
    " (pip install 'gaia-redshift[jax]' 'jax[cuda12]', with KERAS_BACKEND=jax), or use device='cpu'"
)

_START_UP_LINE = re.compile(rb"WARNING: All log messages before absl|I\d{4} \d\d[\d:. ]+\S+:\d+\] ")
_import_lock, _precision_lock = threading.Lock(), threading.Lock()


def import_keras() -> Any:
    """Import Keras quietly, on the backend that ``KERAS_BACKEND`` names.

    By default TensorFlow, or JAX if that alone is installed; `ModelError` if none is.
    """
    with _import_lock:
        if "keras" not in sys.modules:
            # Read once, when TensorFlow's library is loaded; a user's own settings win.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            only_jax = not find_spec("tensorflow") and find_spec("jax")
            os.environ.setdefault("KERAS_BACKEND", "jax" if only_jax else "tensorflow")
            try:
                with preserve_settings(), defer_interrupt(), _without_start_up_lines():
                    importlib.import_module("keras")
            except ModuleNotFoundError as error:
                raise ModelError(
                    f"this needs Keras and TensorFlow ({error.name} is not installed):"
                    " pip install 'gaia-redshift[train]'"
                ) from None
    return importlib.import_module("keras")  # waits where another thread imports it


def import_keras_for_training() -> Any:
    """Import Keras on TensorFlow, on which alone this package trains.

    Raises `ModelError` if it is not installed, or Keras runs on something else.
    """
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        if find_spec("tensorflow"):
            raise ModelError("training needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow")
        raise ModelError(
            "training needs TensorFlow, which is not installed: pip install 'gaia-redshift[train]'"
        )
    return keras


@contextmanager
def _without_start_up_lines() -> Iterator[None]:
    """Drop the lines that TensorFlow's library writes to the file descriptor while it is loaded.

    Everything else that arrives there meanwhile is passed on afterwards.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError, ValueError):  # no standard error to keep clean
        yield
        return
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            buffer.seek(0)
            for line in buffer:
                if not _START_UP_LINE.match(line):
                    os.write(2, line)


def check_device(device: str) -> None:
    """Refuse what is not one of `DEVICES`, with an `InputError`."""
    if device not in DEVICES:
        raise InputError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")


def choose_device(device: str) -> str:
    """Settle where a model may run: "cpu", "gpu", or "auto" where there is a GPU for many spectra.

    "auto" imports nothing itself, which takes seconds: it needs Keras imported, and seeing a GPU.
    Raises `InputError` for another word, `ModelError` if a GPU is asked for and none is seen.
    """
    check_device(device)
    if device == "cpu":
        return device
    if device == "auto":
        if "keras" not in sys.modules:
            return "cpu"
        try:
            return "auto" if _list_gpus(_import_backend()) else "cpu"
        except ModelError:
            return "cpu"
    try:
        backend = _import_backend()
    except ModelError as error:
        raise ModelError(f"no GPU can be used ({error}): {_INSTALL}") from None
    if not _list_gpus(backend):
        raise ModelError(f"Keras's backend {backend} sees no GPU here: {_INSTALL}")
    return device


def _import_backend() -> str:
    try:
        return str(import_keras().backend.backend())
    except (ImportError, ValueError) as error:  # such as a backend that nobody knows
        raise ModelError(f"Keras cannot be imported: {error}") from None


def _list_gpus(backend: str) -> list[Any]:
    """Return the GPUs that a backend sees; none where it is of another kind, or broken."""
    with preserve_settings():
        try:
            if backend == "tensorflow":
                import tensorflow as tf

                return list(tf.config.list_physical_devices("GPU"))
            if backend == "jax":
                import jax

                return [each for each in jax.devices() if each.platform in ("gpu", "cuda", "rocm")]
        except (ImportError, RuntimeError):
            return []
    return []


@contextmanager
def _keep_precision() -> Iterator[None]:
    """Multiply with all of float32's digits; the user's own setting is restored.

    Recent GPUs round to 10 bits (TensorFloat-32), which moves redshifts by more than 1e-4.
    """
    backend = import_keras().backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
        return
    if backend != "tensorflow":
        yield
        return
    from tensorflow.config import experimental

    with _precision_lock:
        before = experimental.tensor_float_32_execution_enabled()
        experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            experimental.enable_tensor_float_32_execution(before)


class KerasEngine:
    """A Keras 3 ``.keras`` archive, run as one compiled function.

    ``keras.Model.predict`` is avoided: it stalls for seconds in many of its runs, when its data
    iterator is deleted.
    """

    batch_size = 2048
    """A GPU's; a processor has as much done with 64."""

    def __init__(self, data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        check_weights(data, name)
        check_links(data, name)
        keras = import_keras()
        with preserve_settings(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(data)
            try:
                model = keras.saving.load_model(path, compile=False, safe_mode=True)
            except Exception as error:
                why = one_line(error)
                raise ModelError(f"{name}: Keras cannot build this network: {why}") from None
        if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
            raise ModelError(f"{name}: a network here maps to one output (n, m)")
        self._shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
        check_shapes(self._shapes, shapes, name)
        self._call = _compile(model, self._shapes)

    def run(
        self, inputs: Inputs | NDArray[np.float32], batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""
        batches = iterate_batches(inputs, self._shapes, batch_size or self.batch_size)
        with _keep_precision():
            return np.concatenate([self._call(batch) for batch in batches])


def compile_network(model: Any) -> Any:
    """Return a function from inputs by name, arrays (n, ...), to an array (n, m).

    It follows later training of the network.
    """
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
    call = _compile(model, shapes)
    return lambda inputs: call(
        {name: np.reshape(inputs[name], (-1, *shape)) for name, shape in shapes.items()}
    )


def _compile(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Return a function from arrays by name to an array."""
    keras = import_keras()
    backend = keras.backend.backend()

    def pass_through(inputs: Any) -> Any:
        return model(_order_inputs(inputs, shapes), training=False)

    if backend == "jax":
        return _compile_with_jax(model, shapes)
    if backend != "tensorflow":  # the user's choice; every backend has this call
        return lambda inputs: keras.ops.convert_to_numpy(pass_through(inputs))
    import tensorflow as tf

    # An open batch dimension: the last, shorter batch does not trace the function anew.
    @tf.function(
        input_signature=[
            {name: tf.TensorSpec((None, *shape), tf.float32) for name, shape in shapes.items()}
        ],
        autograph=False,
        reduce_retracing=True,
    )
    def call(inputs: Any) -> Any:
        return pass_through(inputs)

    return lambda inputs: call({name: tf.constant(x) for name, x in inputs.items()}).numpy()


def _order_inputs(inputs: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Return what a Keras network is called with: its inputs in order, or the only one."""
    values = [inputs[name] for name in shapes]
    return values if len(values) > 1 else values[0]


def _compile_with_jax(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    import jax

    @jax.jit
    def call(trained: Any, others: Any, inputs: Any) -> Any:
        ordered = _order_inputs(inputs, shapes)
        found, _ = model.stateless_call(trained, others, ordered, training=False)
        return found

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        # Each number of rows is compiled anew: there are few powers of two.
        n = len(next(iter(inputs.values())))
        more = (1 << max(n - 1, 0).bit_length()) - n
        padded = {
            name: np.pad(np.asarray(values), [(0, more)] + [(0, 0)] * (np.ndim(values) - 1))
            for name, values in inputs.items()
        }
        variables = (model.trainable_variables, model.non_trainable_variables)
        found = call(*([each.value for each in group] for group in variables), padded)
        return np.array(found)[:n]

    return run
