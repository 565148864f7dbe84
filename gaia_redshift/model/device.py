"""Where a network runs: ONNX Runtime on the processor, or Keras on a GPU.

A GPU is used through the Keras weights that every model of ours has beside its graph, by the
backend that Keras is set up for: TensorFlow, or JAX (with ``KERAS_BACKEND=jax``, or where it alone
is installed).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import preserve_settings
from gaia_redshift.errors import InputError, ModelError
from gaia_redshift.model.batches import Inputs
from gaia_redshift.model.keras_engine import KerasEngine, import_keras

__all__ = ["DEVICES", "FEWEST_FOR_GPU", "Device", "GpuEngine", "check_device", "choose_device"]

Device = Literal["cpu", "gpu", "auto"]
DEVICES: tuple[str, ...] = get_args(Device)

FEWEST_FOR_GPU = 2048
"""Spectra in one call from which "auto" takes the GPU: fewer are done sooner on the processor."""
_INSTALL = (
    "install one of TensorFlow (pip install 'gaia-redshift[train]' 'tensorflow[and-cuda]') or JAX"
    " (pip install 'gaia-redshift[jax]' 'jax[cuda12]', with KERAS_BACKEND=jax), or use device='cpu'"
)
_precision_lock = threading.Lock()


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
def _keep_precision(backend: str) -> Iterator[None]:
    """Multiply with all of float32's digits; the user's own setting is restored.

    Recent GPUs round to 10 bits (TensorFloat-32), which moves redshifts by more than 1e-4.
    """
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


class GpuEngine(KerasEngine):
    """Keras on a GPU: large batches, all digits of float32."""

    batch_size = 2048

    def __init__(self, data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(data, name, shapes)
        self._backend = _import_backend()

    def run(self, inputs: Inputs, batch_size: int | None = None) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""
        with _keep_precision(self._backend):
            return super().run(inputs, batch_size)
