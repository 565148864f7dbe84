"""Run a network with Keras: for training, as the reference, and on a GPU."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift.errors import ModelError
from gaia_redshift.model.batches import Inputs, check_shapes, iterate_batches

__all__ = ["KerasEngine", "compile_network", "import_keras", "import_keras_for_training"]

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_MAX_CONFIG_BYTES = 1_000_000
_LAYERS = (
    "Activation",
    "Add",
    "Concatenate",
    "Conv1D",
    "Dense",
    "Dropout",
    "Flatten",
    "InputLayer",
    "MaxPooling1D",
)
_KNOWN_CLASSES = {
    (None, "__keras_tensor__"),
    ("keras", "DTypePolicy"),
    ("keras", "Sequential"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    *(("keras.layers", name) for name in _LAYERS),
}
"""All that a network's configuration may name: Keras's own classes that our networks use."""
_FUNCTIONAL = ("keras.src.models.functional", "Functional", "Functional")
"""How Keras names its functional networks, the one of its classes with a registered name."""

_START_UP_LINE = re.compile(rb"WARNING: All log messages before absl|I\d{4} \d\d[\d:. ]+\S+:\d+\] ")
_import_lock = threading.Lock()


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


class KerasEngine:
    """A Keras 3 ``.keras`` archive, run as one compiled function.

    ``keras.Model.predict`` is avoided: it stalls for seconds in many of its runs, when its data
    iterator is deleted.
    """

    batch_size = 64
    """Fastest on two cores for the network of 2023; larger ones only take more memory."""

    def __init__(self, data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.check(data, name)
        _check_weights_file(data, name)
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

    @classmethod
    def check(cls, data: bytes, name: str) -> None:
        """Refuse archives that name anything but Keras layers that we use, with a `ModelError`.

        Keras's safe mode is on as well; this check is independent of it and comes first.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {info.filename: info.file_size for info in archive.infolist()}
                if set(members) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
                    raise ModelError(
                        f"{name}: a Keras archive of ours holds {', '.join(sorted(_MEMBERS))} and"
                        " nothing else; refused"
                    )
                if sum(members.values()) > 10 * len(data) + _MAX_CONFIG_BYTES:
                    raise ModelError(f"{name}: unpacks to far more than it holds; refused")
                if members["config.json"] > _MAX_CONFIG_BYTES:
                    raise ModelError(f"{name}: the network's configuration is too large; refused")
                config = json.loads(archive.read("config.json"))
        except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, RuntimeError):
            raise ModelError(f"{name}: not a readable Keras 3 archive (.keras)") from None
        _check_config(config, name)

    def run(self, inputs: Inputs, batch_size: int | None = None) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""
        batches = iterate_batches(inputs, self._shapes, batch_size or self.batch_size)
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


def _check_config(node: Any, name: str) -> None:
    if isinstance(node, list):
        for value in node:
            _check_config(value, name)
    elif isinstance(node, dict):
        if "class_name" in node or "module" in node:
            found = (node.get("module"), node.get("class_name"))
            registered = node.get("registered_name")
            known = found in _KNOWN_CLASSES and registered is None
            if not known and (*found, registered) != _FUNCTIONAL:
                shown = registered or ".".join(str(part) for part in found)
                raise ModelError(
                    f"{name}: the network names {shown!r}, which is not one of the Keras layers"
                    " that models of this package use; refused"
                )
        for value in node.values():
            _check_config(value, name)


def _check_weights_file(data: bytes, name: str) -> None:
    """Refuse HDF5 weights that point to other files or places."""
    import h5py

    def visit(group: Any) -> None:
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ModelError(f"{name}: the weights hold a link ({key!r}); refused")
            item = group[key]
            if isinstance(item, h5py.Group):
                visit(item)
            elif item.external or item.is_virtual:
                raise ModelError(f"{name}: the weights lie outside the file ({key!r}); refused")

    try:
        with (
            zipfile.ZipFile(io.BytesIO(data)) as archive,
            h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights,
        ):
            visit(weights)
    except (OSError, zipfile.BadZipFile, RecursionError, RuntimeError):
        raise ModelError(f"{name}: the network's weights cannot be read") from None
