"""What runs a network: an engine is built from checked bytes and maps inputs to outputs.

Each model's manifest names its engine. `check` looks at the bytes without importing anything
heavy, so that an unsafe file is refused when the model is loaded, before its first use.
"""

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift.errors import ModelError

__all__ = ["ENGINES", "Engine", "KerasEngine", "compile_network", "import_keras"]

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_MAX_CONFIG_BYTES = 1_000_000
_KNOWN_CLASSES = {
    ("keras", "DTypePolicy"),
    ("keras", "Functional"),
    ("keras", "Sequential"),
    ("keras.initializers", "GlorotUniform"),
    ("keras.initializers", "Zeros"),
    ("keras.layers", "Conv1D"),
    ("keras.layers", "Dense"),
    ("keras.layers", "Flatten"),
    ("keras.layers", "InputLayer"),
    ("keras.layers", "MaxPooling1D"),
}
"""All that a network's configuration may name: Keras's own layers that our networks use."""

_START_UP_LINE = re.compile(rb"WARNING: All log messages before absl|I\d{4} \d\d[\d:. ]+\S+:\d+\] ")
_import_lock = threading.Lock()


class Engine(Protocol):
    """Runs one network."""

    def __init__(self, data: bytes, name: str, n_columns: int) -> None:
        """Build the network from the bytes of its file; ``name`` is for messages."""

    @classmethod
    def check(cls, data: bytes, name: str) -> None:
        """Refuse bytes that this engine must not open, with a `ModelError`."""

    def run(
        self, inputs: NDArray[np.float32], batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Map inputs, shape (n, 186), to outputs, shape (n, m)."""


def import_keras() -> Any:
    """Import Keras quietly, leaving NumPy's print options and the warning filters alone."""
    with _import_lock:
        if "keras" not in sys.modules:
            # Read once, when TensorFlow's library is loaded; a user's own settings win.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
            os.environ.setdefault("KERAS_BACKEND", "tensorflow")
            with preserve_settings(), defer_interrupt(), _without_start_up_lines():
                importlib.import_module("keras")
    return sys.modules["keras"]


@contextmanager
def _without_start_up_lines() -> Iterator[None]:
    """Drop the information lines that TensorFlow's library writes while it is loaded.

    They go to the file descriptor itself and heed no setting of TensorFlow's. Everything else
    that arrives there meanwhile is passed on afterwards.
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

    def __init__(self, data: bytes, name: str, n_columns: int) -> None:
        self.check(data, name)
        _check_weights_file(data, name)
        keras = import_keras()
        with preserve_settings(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(data)
            try:
                model = keras.saving.load_model(path, compile=False, safe_mode=True)
            except Exception as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ModelError(f"{name}: Keras cannot build this network: {reason}") from None
        if tuple(model.input_shape) != (None, n_columns, 1) or len(model.output_shape) != 2:
            raise ModelError(
                f"{name}: a network for {n_columns} fluxes maps (n, {n_columns}, 1) to (n, m),"
                f" this one {model.input_shape} to {model.output_shape}"
            )
        self._call = compile_network(model, n_columns)

    @classmethod
    def check(cls, data: bytes, name: str) -> None:
        """Refuse archives whose configuration names anything but Keras layers that we use.

        Keras's safe mode is on as well; this check is independent of it and comes first.

        Raises
        ------
        ModelError
            If the bytes are not such an archive.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {info.filename: info.file_size for info in archive.infolist()}
                if set(members) != _MEMBERS or len(archive.infolist()) != len(_MEMBERS):
                    raise ModelError(
                        f"{name}: a Keras archive of ours holds {', '.join(sorted(_MEMBERS))} and"
                        " nothing else; refused"
                    )
                if members["config.json"] > _MAX_CONFIG_BYTES:
                    raise ModelError(f"{name}: the network's configuration is too large; refused")
                config = json.loads(archive.read("config.json"))
        except (zipfile.BadZipFile, ValueError, RecursionError, NotImplementedError, RuntimeError):
            raise ModelError(f"{name}: not a readable Keras 3 archive (.keras)") from None
        _check_config(config, name)

    def run(
        self, inputs: NDArray[np.float32], batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Map inputs, shape (n, 186), to outputs, shape (n, m)."""
        size = batch_size or self.batch_size
        batches = [self._call(inputs[i : i + size]) for i in range(0, max(len(inputs), 1), size)]
        return np.concatenate(batches)


ENGINES: dict[str, type[Engine]] = {"keras": KerasEngine}
"""Engines by the name that a manifest gives."""


def compile_network(model: Any, n_columns: int) -> Any:
    """Return a function from an array (n, 186) to an array (n, m); it follows later training."""
    import keras

    if keras.backend.backend() != "tensorflow":  # the user's choice; every backend has this call
        return lambda x: keras.ops.convert_to_numpy(model(x[..., None], training=False))
    import tensorflow as tf

    # An open batch dimension: the last, shorter batch does not trace the function anew.
    @tf.function(
        input_signature=[tf.TensorSpec((None, n_columns), tf.float32)],
        autograph=False,
        reduce_retracing=True,
    )
    def call(x: Any) -> Any:
        return model(x[..., None], training=False)

    return lambda x: call(tf.constant(x)).numpy()


def _check_config(node: Any, name: str) -> None:
    if isinstance(node, list):
        for value in node:
            _check_config(value, name)
    elif isinstance(node, dict):
        if "class_name" in node or "module" in node:
            found = (node.get("module"), node.get("class_name"))
            if found not in _KNOWN_CLASSES or node.get("registered_name") is not None:
                shown = node.get("registered_name") or ".".join(str(part) for part in found)
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
