"""Run a network with ONNX Runtime."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift.errors import ModelError
from gaia_redshift.model.batches import Inputs, check_shapes, iterate_batches
from gaia_redshift.model.onnx_check import check_graph
from gaia_redshift.model.onnx_format import Graph, GraphError, read_graph

__all__ = ["OnnxEngine", "import_onnxruntime"]

_MAX_THREADS = 8
"""More do not help batches of this size."""

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
    return sys.modules["onnxruntime"]


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
        self._data = data
        self._name = name
        self._lock = threading.Lock()
        self._session: Any = self._open()
        _engines.add(self)

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
        with self._lock:
            if self._session is None:
                self._session = self._open()
            session = self._session
        batches = list(iterate_batches(inputs, self._shapes, batch_size or self.batch_size))
        try:
            return np.concatenate([session.run(None, batch)[0] for batch in batches])
        except Exception as error:
            raise ModelError(f"{self._name}: {_shorten(error)}") from None

    def _open(self) -> Any:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = _count_threads()
        options.inter_op_num_threads = 1
        # Waiting threads sleep: spinning slows whatever else the machine does.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Memory goes back to the system between calls.
        options.enable_cpu_mem_arena = False
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        try:
            return runtime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"{self._name}: ONNX Runtime cannot open it: {_shorten(error)}"
            ) from None

    def _leave_session(self) -> None:
        """In a forked process: open another session for the next run, and never end this one.

        Its threads stayed in the parent. Whoever ends the session, at the latest when the process
        exits, waits for them for ever: one reference is therefore never given back.
        """
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None
        self._lock = threading.Lock()  # a thread of the parent may have held it


_engines: weakref.WeakSet[OnnxEngine] = weakref.WeakSet()


def _leave_sessions() -> None:
    for engine in list(_engines):
        engine._leave_session()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_sessions)


def _check(data: bytes, name: str) -> Graph:
    try:
        graph = read_graph(data)
        check_graph(graph)
    except GraphError as error:
        raise ModelError(f"{name}: {error}; refused") from None
    return graph


def _count_threads() -> int:
    """Threads for one operation: the processors that this process may use, or as the user says."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    return min(os.cpu_count() or 1, _MAX_THREADS)


def _shorten(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
