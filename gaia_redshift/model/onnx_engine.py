"""Run a network with ONNX Runtime.

It refuses by itself what is damaged or names unknown operations, but it bounds no work: a model
that does not come with the package runs in bounded memory and time, so that one from a stranger can
at worst fail.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift._files import one_line
from gaia_redshift._quiet import defer_interrupt, preserve_settings
from gaia_redshift._threads import MOST_THREADS, Crew
from gaia_redshift.errors import ModelError
from gaia_redshift.model.scaler import Inputs, check_shapes, iterate_batches

__all__ = ["OnnxEngine", "import_onnxruntime"]

_SMALLEST_SHARE = 16
"""Fewer spectra are not worth a thread."""
_MOST_MEMORY = 4_000_000_000
"""Bytes that all bounded networks of a process may take; ours take some millions a thread."""
_LONGEST = 120.0
"""Seconds that a bounded network may take for a batch; ours take some hundredths."""

_import_lock = threading.Lock()


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry switched off; `ModelError` if it is not installed.

    From version 1.29 on it reports to its maker, and writes an identifier of the machine into the
    user's cache, as soon as it is imported, unless this variable of the environment is set before.
    A user who sets it to another value is obeyed.
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
    """An ONNX graph, run by ONNX Runtime; the same batches give the same bits.

    ``name`` is for messages, ``shapes`` are those of the inputs that it will get, without the
    batch; with ``bounded`` memory and time are limited.
    """

    batch_size = 64
    """As fast as any on two cores; larger ones only take more memory."""

    def __init__(
        self,
        data: bytes,
        name: str,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        bounded: bool = True,
    ) -> None:
        self._name = name
        self._bounded = bounded
        self._crew = Crew()
        if b"location" in data:  # of values outside the file: ONNX Runtime 1.19 reads any file
            raise ModelError(f"{name}: it points to other files; refused")
        import_onnxruntime()
        try:
            self._session = self._open(data)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            types = {value.type for value in (*inputs, *outputs)}
            ranks = [len(value.shape) for value in outputs]
            self._shapes = {value.name: tuple(value.shape[1:]) for value in inputs}
        except Exception as error:
            raise ModelError(f"{name}: ONNX Runtime cannot open it: {one_line(error)}") from None
        if types != {"tensor(float)"} or ranks != [2]:
            raise ModelError(f"{name}: a network here maps float32 values to one output (n, m)")
        check_shapes(self._shapes, shapes, name)

    def run(
        self, inputs: Inputs | NDArray[np.float32], batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""
        if batch_size is None:
            arrays = inputs.values() if isinstance(inputs, Mapping) else [inputs]
            # Not by the threads that there are: the bits would depend on them.
            share = -(-len(next(iter(arrays))) // MOST_THREADS)
            batch_size = min(self.batch_size, max(share, _SMALLEST_SHARE))
        batches = list(iterate_batches(inputs, self._shapes, batch_size))
        outputs: list[Any] = [None] * len(batches)

        def work(number: int) -> None:
            outputs[number] = self._run_batch(batches[number])

        # One thread a batch: two threads in one operation mostly wait for each other.
        try:
            self._crew.share(work, len(batches))
        except Exception as error:
            raise ModelError(f"{self._name}: {one_line(error)}") from None
        return np.concatenate(outputs)

    def _run_batch(self, batch: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        if not self._bounded:
            return self._session.run(None, batch)[0]
        options = import_onnxruntime().RunOptions()
        timer = threading.Timer(_LONGEST, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self._session.run(None, batch, options)[0]
        except Exception:
            if options.terminate:
                raise TimeoutError(f"a batch takes longer than {_LONGEST:g} s; stopped") from None
            raise
        finally:
            timer.cancel()

    def _open(self, data: bytes) -> Any:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # Memory goes back to the system between calls.
        options.enable_cpu_mem_arena = False
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        if self._bounded:
            _bound_memory()
            options.enable_cpu_mem_arena = True
            options.add_session_config_entry("session.use_env_allocators", "1")
        where: dict[str, Any] = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
        return runtime.InferenceSession(data, options, **where)


@cache
def _bound_memory() -> None:
    """Bound what sessions may take that ask for the process's own allocator; once a process."""
    runtime = import_onnxruntime()
    arena = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = runtime.OrtMemoryInfo("Cpu", arena, 0, runtime.OrtMemType.DEFAULT)
    grows_by_need = {"max_mem": _MOST_MEMORY, "arena_extend_strategy": 1}
    runtime.create_and_register_allocator(memory, runtime.OrtArenaCfg(grows_by_need))
