"""Decide whether a graph may run: known operations alone, consistent shapes, bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gaia_redshift.model.onnx_format import Graph, GraphError, Node

__all__ = ["check_graph"]

_MAX_VALUES = 2_000_000
"""Values per spectrum, all operations together: with batches of 64, half a gigabyte at worst."""

_Shape = tuple[int, ...]


def check_graph(graph: Graph) -> None:
    """Work out the shape of every value, per spectrum, and refuse what is not as it should be.

    Raises
    ------
    GraphError
        If an operation, or an option of one, is not known here; if shapes do not fit; if there is
        not one output with one dimension; or if the values take too much memory.
    """
    shapes = dict(graph.inputs)
    if not shapes or len(graph.outputs) != 1:
        raise GraphError("a network has inputs and one output")
    if shapes.keys() & graph.constants.keys():
        raise GraphError("an input is also a constant")
    total = 0
    for node in graph.nodes:
        if node.kind not in _RULES:
            raise GraphError(
                f"it has the operation {node.kind!r}, which models of this package do not use"
            )
        count, options, rule = _RULES[node.kind]
        unknown = set(node.attributes) - options
        if unknown:
            raise GraphError(f"{node.kind} has an unknown option {min(unknown)!r}")
        if node.output in shapes or node.output in graph.constants:
            raise GraphError(f"the value {node.output!r} is worked out twice")
        values = [_find(name, graph, shapes) for name in node.inputs]
        if not count[0] <= len(values) <= count[1] or not isinstance(values[0], tuple):
            raise GraphError(f"{node.kind} has inputs of the wrong number or kind")
        try:
            shape = rule(node, *values)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            raise GraphError(f"the inputs or options of {node.output!r} do not fit") from None
        total += math.prod(shape)
        if total > _MAX_VALUES or min(shape, default=1) < 1:
            raise GraphError("its values take too much memory, or none at all")
        shapes[node.output] = shape
    ((name, expected),) = graph.outputs.items()
    if shapes.get(name) != expected or len(expected) != 1:
        raise GraphError(f"a network maps to (n, m), this one to {('n', *shapes.get(name, ()))}")


def _find(name: str, graph: Graph, shapes: dict[str, _Shape]) -> Any:
    """The shape of a value, or the array of a constant."""
    if name in shapes:
        return shapes[name]
    if name in graph.constants:
        return graph.constants[name]
    raise GraphError(f"the value {name!r} is used before it is worked out")


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _require_weights(values: tuple[Any, ...], shape: _Shape) -> None:
    for array in values:
        _require(array.dtype == np.float32 and array.shape == shape)


def _slide(node: Node, x: _Shape, kernel: _Shape) -> int:
    """Length after a window has moved along; all of it in two dimensions, of height 1."""
    _, height, length = x
    row, stride = node.attributes.get("strides", (1, 1))
    column, dilation = node.attributes.get("dilations", (1, 1))
    above, before, below, after = node.attributes.get("pads", (0, 0, 0, 0))
    _require(height == row == column == 1 and above == below == 0)
    thick, size = kernel
    reach = (size - 1) * dilation + 1
    _require(thick == 1 and stride > 0 and dilation > 0 and size > 0)
    _require(0 <= before <= reach and 0 <= after <= reach and before + length + after >= reach)
    return (before + length + after - reach) // stride + 1


def _convolve(node: Node, x: _Shape, kernel: Any, *bias: Any) -> _Shape:
    filters, depth, *size = kernel.shape
    group = node.attributes.get("group", 1)
    _require(isinstance(group, int) and group > 0 and x[0] == depth * group)
    _require(filters % group == 0 and list(node.attributes.get("kernel_shape", size)) == size)
    _require_weights((kernel,), (filters, depth, *size))
    _require_weights(bias, (filters,))
    return filters, 1, _slide(node, x, tuple(size))


def _pool(node: Node, x: _Shape) -> _Shape:
    return x[0], 1, _slide(node, x, node.attributes["kernel_shape"])


def _average(node: Node, x: _Shape) -> _Shape:
    channels, _, _ = x
    return channels, 1, 1


def _multiply_matrix(node: Node, x: _Shape, kernel: Any, *bias: Any) -> _Shape:
    rows, columns = kernel.shape
    _require(x[-1] == rows and (len(x) == 1 or node.kind == "MatMul"))
    _require_weights((kernel,), (rows, columns))
    _require_weights(bias, (columns,))
    return (*x[:-1], columns)


def _combine(node: Node, x: _Shape, other: Any) -> _Shape:
    if isinstance(other, tuple):
        _require(x == other)
    else:
        _require_weights((other,), x[-1:])
    return x


def _keep(node: Node, x: _Shape) -> _Shape:
    _require(node.attributes.get("axis", -1) == -1)
    return x


def _normalize_last(node: Node, x: _Shape, *values: Any) -> _Shape:
    _require(node.attributes.get("axis", -1) == -1)
    _require_weights(values, x[-1:])
    return x


def _normalize_channels(node: Node, x: _Shape, *values: Any) -> _Shape:
    _require_weights(values, x[:1])
    return x


def _transpose(node: Node, x: _Shape) -> _Shape:
    batch, *order = node.attributes["perm"]
    _require(batch == 0 and sorted(order) == list(range(1, len(x) + 1)))
    return tuple(x[axis - 1] for axis in order)


def _reshape(node: Node, x: _Shape, target: Any) -> _Shape:
    batch, *shape = target.tolist()
    _require(target.dtype == np.int64 and batch == -1 and math.prod(shape) == math.prod(x))
    return tuple(shape)


def _concatenate(node: Node, *values: Any) -> _Shape:
    axis = node.attributes["axis"]
    _require(isinstance(axis, int) and 1 <= axis <= len(values[0]))
    rests = {(*x[: axis - 1], *x[axis:]) for x in values if isinstance(x, tuple)}
    _require(len(rests) == 1 and all(isinstance(x, tuple) for x in values))
    size = sum(x[axis - 1] for x in values)
    return (*values[0][: axis - 1], size, *values[0][axis:])


_WINDOW = frozenset({"dilations", "group", "kernel_shape", "pads", "strides"})
_AXIS = frozenset({"axis"})
_NONE: frozenset[str] = frozenset()
_RULES: dict[str, tuple[tuple[int, int], frozenset[str], Callable[..., _Shape]]] = {
    "Add": ((2, 2), _NONE, _combine),
    "AveragePool": ((1, 1), _WINDOW - {"group", "dilations"}, _pool),
    "BatchNormalization": ((5, 5), frozenset({"epsilon"}), _normalize_channels),
    "Concat": ((1, 64), _AXIS, _concatenate),
    "Conv": ((2, 3), _WINDOW, _convolve),
    "Elu": ((1, 1), _NONE, _keep),
    "Gelu": ((1, 1), _NONE, _keep),
    "Gemm": ((2, 3), _NONE, _multiply_matrix),
    "GlobalAveragePool": ((1, 1), _NONE, _average),
    "LayerNormalization": ((3, 3), frozenset({"axis", "epsilon"}), _normalize_last),
    "MatMul": ((2, 2), _NONE, _multiply_matrix),
    "MaxPool": ((1, 1), _WINDOW - {"group", "dilations"}, _pool),
    "Mul": ((2, 2), _NONE, _combine),
    "Relu": ((1, 1), _NONE, _keep),
    "Reshape": ((2, 2), _NONE, _reshape),
    "Sigmoid": ((1, 1), _NONE, _keep),
    "Softmax": ((1, 1), _AXIS, _keep),
    "Softplus": ((1, 1), _NONE, _keep),
    "Tanh": ((1, 1), _NONE, _keep),
    "Transpose": ((1, 1), frozenset({"perm"}), _transpose),
}
"""Operation -> how many inputs it may have, its options, and the rule of its shape."""
