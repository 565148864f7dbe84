"""What runs a network: an engine is built from checked bytes and maps inputs to outputs.

Each model's manifest names its engine: ``onnx`` (ONNX Runtime, light and quick to start) or
``keras`` (Keras on TensorFlow, for folders without a graph). `check` looks at the bytes without
importing either, so that an unsafe file is refused when the model is loaded, before its first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.model.batches import Inputs
from gaia_redshift.model.keras_engine import (
    KerasEngine,
    compile_network,
    import_keras,
    import_keras_for_training,
)
from gaia_redshift.model.onnx_engine import OnnxEngine

__all__ = [
    "ENGINES",
    "Engine",
    "KerasEngine",
    "OnnxEngine",
    "compile_network",
    "import_keras",
    "import_keras_for_training",
]


class Engine(Protocol):
    """Runs one network."""

    role: ClassVar[str]
    """The manifest's name for the file that this engine runs."""

    def __init__(self, data: bytes, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Build the network from the bytes of its file.

        ``name`` is for messages; ``shapes`` are those of the inputs that it will get, without the
        batch.
        """

    @classmethod
    def check(cls, data: bytes, name: str) -> None:
        """Refuse bytes that this engine must not open, with a `ModelError`."""

    def run(self, inputs: Inputs, batch_size: int | None = None) -> NDArray[np.float32]:
        """Map inputs, shape (n, ...) each, to outputs, shape (n, m)."""


ENGINES: dict[str, type[Engine]] = {"keras": KerasEngine, "onnx": OnnxEngine}
"""Engines by the name that a manifest gives."""
