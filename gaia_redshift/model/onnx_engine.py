"""Run a network with ONNX Runtime."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift._threads import Crew
from gaia_redshift.errors import ModelError
from gaia_redshift.model.batches import Inputs, check_shapes, iterate_batches
from gaia_redshift.model.onnx_check import check_graph
from gaia_redshift.model.onnx_format import Graph, GraphError, read_graph

__all__ = ["OnnxEngine", "import_onnxruntime"]

_SMALLEST_SHARE = 16
"""Fewer spectra are not worth a thread."""

_import_lock = threading.Lock()


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry switched off.

    Since version 1.29 its own builds for Linux and macOS report to their maker, and write an
    identifier of the machine into the user's cache folder, as soon as they are imported, unless
    this variable of the environment is set before. A user who sets it to another value is obeyed.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    with _import_lock:
        if "onnxruntime" not in sys.modules:
            os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
            try:
                with preserve_settings(), defer_interrupt():
                    runtime = importlib.import_module("onnxruntime")
            except ImportError as error:
                raise ModelError(
                    f"predicting needs onnxruntime, which cannot be imported ({error}):"
                    " pip install onnxruntime"
                ) from None
            if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
                runtime.disable_telemetry_events()  # Windows knows no such variable
    return importlib.import_module("onnxruntime")  # waits where another thread imports it


class OnnxEngine:
    """An ONNX graph, run by ONNX Runtime on the processor.

    Only graphs that `check` passes are opened: see `gaia_redshift.model.onnx_format` and
    `gaia_redshift.model.onnx_check`. The same inputs in the same batches give the same outputs to
    the last bit.
    """

    role: ClassVar[str] = "graph"
    batch_size = 64
    """As fast as any on two cores; larger ones only take more memory."""

    def __init__(self, data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = _check(data, name).inputs
        check_shapes(self._shapes, shapes, name)
        self._name = name
        self._crew = Crew()
        self._session = self._open(data)

    @classmethod
    def check(cls, data: bytes, name: str) -> None:
        """Refuse a file that is not a plain graph of the operations that our networks use.

        Raises
        ------
        ModelError
            With what was found.
        """
        _check(data, name)

    def run(self, inputs: Inputs, batch_size: int | None = None) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""
        if batch_size is None:
            arrays = inputs.values() if isinstance(inputs, Mapping) else [inputs]
            share = -(-len(next(iter(arrays))) // self._crew.n_threads)
            batch_size = min(self.batch_size, max(share, _SMALLEST_SHARE))
        batches = list(iterate_batches(inputs, self._shapes, batch_size))
        outputs: list[Any] = [None] * len(batches)

        def work(number: int) -> None:
            outputs[number] = self._session.run(None, batches[number])[0]

        # One thread a batch: two threads in one operation mostly wait for each other.
        try:
            self._crew.share(work, len(batches))
        except Exception as error:
            raise ModelError(f"{self._name}: {_shorten(error)}") from None
        return np.concatenate(outputs)

    def _open(self, data: bytes) -> Any:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Memory goes back to the system between calls.
        options.enable_cpu_mem_arena = False
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"{self._name}: ONNX Runtime cannot open it: {_shorten(error)}"
            ) from None


def _check(data: bytes, name: str) -> Graph:
    try:
        graph = read_graph(data)
        check_graph(graph)
    except GraphError as error:
        raise ModelError(f"{name}: {error}; refused") from None
    return graph


def _shorten(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
