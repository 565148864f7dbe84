"""Write a Keras network as an ONNX graph, the file that predictions run.

Only the layers that networks of this package use are known; anything else is refused. Keras keeps
channels last, ONNX convolutions want them second: each tensor carries its layout, and a transpose
is put in only where a layer needs the other one. Convolutions are written in two dimensions, of
height 1: ONNX Runtime's fast code for them, half as fast again, is for those alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gaia_redshift.errors import ModelError
from gaia_redshift.model.keras_engine import import_keras
from gaia_redshift.model.onnx_engine import OnnxEngine
from gaia_redshift.model.scaler import Inputs

__all__ = ["build_graph", "import_onnx", "write_graph"]

_OPSET, _IR_VERSION = 20, 9
_N_SAMPLES = 32
_TOLERANCE = 1e-5
"""How far a graph's outputs may lie from Keras's, in float32."""
_ACTIVATIONS = {
    "elu": "Elu",
    "gelu": "Gelu",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "tanh": "Tanh",
}


@dataclass(frozen=True)
class _Tensor:
    """A value in the graph; ``shape`` is Keras's, without the batch, channels last.

    With ``channels_first`` a shape of (length, channels) is (n, channels, 1, length) in the graph.
    """

    name: str
    shape: tuple[int, ...]
    channels_first: bool = False


def import_onnx() -> Any:
    """Import the package ``onnx``; `ModelError` if it is not installed."""
    try:
        import onnx
    except ImportError:
        raise ModelError(
            "writing a network for prediction needs onnx: pip install 'gaia-redshift[train]'"
        ) from None
    return onnx


def build_graph(network: Any) -> bytes:
    """Return a network, sequential or functional, as the bytes of an ONNX model, all float32.

    Inputs have the names and shapes of the network's, with an open batch dimension; the same
    weights give the same bytes. `ModelError` if a layer, or an option of one, is not known.
    """
    onnx = import_onnx()
    # A Sequential becomes functional, so that there is one way to read the connections.
    functional = import_keras().Model(network.inputs, network.outputs)
    writer = _GraphWriter(onnx.helper, onnx.numpy_helper)
    config = functional.get_config()
    for entry in config["layers"]:  # each behind those that it takes its inputs from
        layer = functional.get_layer(entry["name"])
        if entry["class_name"] == "InputLayer":
            writer.add_input(entry["name"], tuple(layer.batch_shape[1:]))
        for index, node in enumerate(entry["inbound_nodes"]):
            writer.add_layer(layer, _find_sources(node), (entry["name"], index))
    last = config["output_layers"]
    name, index = (last[0] if isinstance(last[0], list) else last)[:2]
    model = writer.finish((name, index))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def write_graph(path: Path, network: Any, inputs: Inputs | None = None) -> float:
    """Write a network as the file that predictions run; return the two's largest difference.

    They are compared on made-up values and on ``inputs``; `ModelError` if an output differs from
    Keras's by more than 1e-5 (of its value, where that is above 1).
    """
    data = build_graph(network)
    shapes = {tensor.name: tuple(tensor.shape[1:]) for tensor in network.inputs}
    engine = OnnxEngine(data, str(path), shapes)
    rng = np.random.default_rng(0)
    samples = [
        {
            name: rng.uniform(-0.1, 1.1, (_N_SAMPLES, *shape)).astype(np.float32)
            for name, shape in shapes.items()
        }
    ]
    if inputs is not None:
        samples += [{name: inputs[name].reshape(-1, *shape) for name, shape in shapes.items()}]
    difference = 0.0
    for sample in samples:
        values = list(sample.values())
        reference = network(values if len(values) > 1 else values[0], training=False)
        expected = np.asarray(reference)
        error = np.abs(engine.run(sample) - expected) / np.maximum(np.abs(expected), 1.0)
        difference = max(difference, float(error.max()))
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"the graph's outputs differ from Keras's by up to {difference:.1e}, more than"
            f" {_TOLERANCE:g}; not written"
        )
    path.write_bytes(data)
    return difference


def _find_sources(node: dict[str, Any]) -> list[tuple[str, int]]:
    """(layer, call) of each tensor that a call of a layer takes."""
    found: list[tuple[str, int]] = []

    def visit(value: Any) -> None:
        if isinstance(value, list | tuple):
            for part in value:
                visit(part)
        elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            name, index, _ = value["config"]["keras_history"]
            found.append((name, index))

    visit(node["args"])
    return found


class _GraphWriter:
    """Collects nodes and constants, layer by layer."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self._helper = helper
        self._numpy_helper = numpy_helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._tensors: dict[tuple[str, int], _Tensor] = {}
        self._turned: dict[str, _Tensor] = {}

    def add_input(self, name: str, shape: tuple[int, ...]) -> None:
        self._inputs.append(self._describe(name, shape))
        self._tensors[name, 0] = _Tensor(name, shape)

    def add_layer(self, layer: Any, sources: list[tuple[str, int]], key: tuple[str, int]) -> None:
        name = type(layer).__name__
        if name not in _WRITERS:
            raise ModelError(f"the layer {layer.name!r} ({name}) cannot be written as a graph")
        if layer.dtype_policy.compute_dtype != "float32":
            raise ModelError(f"the layer {layer.name!r} computes in {layer.compute_dtype}")
        inputs = [self._tensors[source] for source in sources]
        self._tensors[key] = _WRITERS[name](self, layer, *inputs)

    def finish(self, key: tuple[str, int]) -> Any:
        result = self.with_channels_last(self._tensors[key])
        graph = self._helper.make_graph(
            self._nodes, "network", self._inputs, [self._describe(result.name, result.shape)]
        )
        graph.initializer.extend(self._constants)
        return self._helper.make_model(
            graph,
            opset_imports=[self._helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="gaia_redshift",
        )

    def _describe(self, name: str, shape: tuple[int, ...]) -> Any:
        return self._helper.make_tensor_value_info(name, 1, ["n", *shape])

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        name = f"{name}_{len(self._constants)}"
        self._constants.append(self._numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add_node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def with_channels_last(self, x: _Tensor) -> _Tensor:
        return self._turn(x) if x.channels_first else x

    def with_channels_first(self, x: _Tensor) -> _Tensor:
        return x if x.channels_first or len(x.shape) < 2 else self._turn(x)

    def _turn(self, x: _Tensor) -> _Tensor:
        if x.name not in self._turned:
            length, channels = x.shape
            name = x.name
            if not x.channels_first:
                if 1 not in x.shape:  # else the order of the values stays
                    name = self.add_node("Transpose", [name], perm=[0, 2, 1])
                name = self.add_reshape(name, (channels, 1, length))
            else:
                if 1 not in x.shape:
                    name = self.add_node("Transpose", [name], perm=[0, 2, 3, 1])
                name = self.add_reshape(name, (length, channels))
            self._turned[x.name] = _Tensor(name, x.shape, not x.channels_first)
            self._turned[name] = x
        return self._turned[x.name]

    def add_reshape(self, name: str, shape: tuple[int, ...]) -> str:
        target = self.add_constant("shape", np.array([-1, *shape], dtype=np.int64))
        return self.add_node("Reshape", [name, target])

    def add_activation(self, name: Any, x: _Tensor) -> _Tensor:
        """Apply an activation by Keras's name."""
        if name == "linear":
            return x
        if name not in _ACTIVATIONS:
            raise ModelError(f"the activation {name!r} cannot be written as a graph")
        return _Tensor(self.add_node(_ACTIVATIONS[name], [x.name]), x.shape, x.channels_first)

    def write_convolution(self, layer: Any, x: _Tensor) -> _Tensor:
        config, weights = layer.get_config(), layer.get_weights()
        kernel, stride, dilation = (
            config[key][0] for key in ("kernel_size", "strides", "dilation_rate")
        )
        pads, length = _pad(layer, x.shape[0], (kernel - 1) * dilation + 1, stride)
        # Keras (kernel, in, out), ONNX (out, in, 1, kernel)
        values = weights[0].transpose(2, 1, 0)[:, :, None]
        names = [self.with_channels_first(x).name, self.add_constant("kernel", values)]
        if config["use_bias"]:
            names.append(self.add_constant("bias", weights[1]))
        result = self.add_node(
            "Conv",
            names,
            kernel_shape=[1, kernel],
            strides=[1, stride],
            dilations=[1, dilation],
            group=config["groups"],
            pads=pads,
        )
        return self.add_activation(
            config["activation"], _Tensor(result, (length, config["filters"]), True)
        )

    def write_pooling(self, layer: Any, x: _Tensor) -> _Tensor:
        size, stride = layer.pool_size[0], layer.strides[0]
        pads, length = _pad(layer, x.shape[0], size, stride)
        result = self.add_node(
            "MaxPool",
            [self.with_channels_first(x).name],
            kernel_shape=[1, size],
            strides=[1, stride],
            pads=pads,
        )
        return _Tensor(result, (length, x.shape[1]), True)

    def write_flatten(self, layer: Any, x: _Tensor) -> _Tensor:
        shape = (math.prod(x.shape),)
        return _Tensor(self.add_reshape(self.with_channels_last(x).name, shape), shape)

    def write_dense(self, layer: Any, x: _Tensor) -> _Tensor:
        if len(x.shape) != 1:
            raise ModelError(f"the layer {layer.name!r} works on more than one dimension")
        config, weights = layer.get_config(), layer.get_weights()
        kernel = self.add_constant("kernel", weights[0])
        bias = [self.add_constant("bias", weights[1])] if config["use_bias"] else []
        result = self.add_node("Gemm", [x.name, kernel, *bias])
        return self.add_activation(config["activation"], _Tensor(result, (config["units"],)))

    def write_sum(self, layer: Any, *inputs: _Tensor) -> _Tensor:
        first, *others = self._align(inputs)
        name = first.name
        for x in others:
            name = self.add_node("Add", [name, x.name])
        return _Tensor(name, first.shape, first.channels_first)

    def write_concatenation(self, layer: Any, *inputs: _Tensor) -> _Tensor:
        inputs = self._align(inputs)
        first = inputs[0].channels_first
        axis = 1 if first else len(inputs[0].shape)
        name = self.add_node("Concat", [x.name for x in inputs], axis=axis)
        shape = (*inputs[0].shape[:-1], sum(x.shape[-1] for x in inputs))
        return _Tensor(name, shape, first)

    def _align(self, inputs: tuple[_Tensor, ...]) -> tuple[_Tensor, ...]:
        if any(x.channels_first for x in inputs):
            return tuple(self.with_channels_first(x) for x in inputs)
        return inputs


def _pad(layer: Any, length: int, reach: int, stride: int) -> tuple[list[int], int]:
    """Padding before and after, and the length that comes out."""
    if layer.padding == "valid":
        return [0, 0, 0, 0], (length - reach) // stride + 1
    if layer.padding != "same":
        raise ModelError(
            f"the layer {layer.name!r} has padding {layer.padding!r}, which cannot be written as a"
            " graph"
        )
    result = math.ceil(length / stride)
    total = max((result - 1) * stride + reach - length, 0)
    return [0, total // 2, 0, total - total // 2], result


_WRITERS: dict[str, Callable[..., _Tensor]] = {
    "Activation": lambda writer, layer, x: writer.add_activation(
        layer.get_config()["activation"], x
    ),
    "Add": _GraphWriter.write_sum,
    "Concatenate": _GraphWriter.write_concatenation,
    "Conv1D": _GraphWriter.write_convolution,
    "Dense": _GraphWriter.write_dense,
    "Dropout": lambda writer, layer, x: x,
    "Flatten": _GraphWriter.write_flatten,
    "MaxPooling1D": _GraphWriter.write_pooling,
}
