"""Read ONNX files strictly, without the ``onnx`` package: only what our own networks hold.

The format is a Protocol Buffers message. Every field that this reader does not know is refused, and
so is a field given twice where one is allowed, so that what is checked here is all that ONNX
Runtime finds in the same bytes. Field numbers are those of ONNX's published schema
(``onnx.proto``, https://github.com/onnx/onnx).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Graph", "GraphError", "Node", "read_graph"]

_OPSETS = range(17, 24)
_MAX_BYTES = 64_000_000
_MAX_NODES = 2_000
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}
"""Types of values by ONNX's numbers; nothing but float32, and int64 for shapes."""


class GraphError(ValueError):
    """What is wrong with a file, in words that can follow its name."""


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of its inputs and of its output, its options."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as ONNX has it; shapes are without the batch dimension."""

    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]


# A message: number of the field -> (name, kind, whether it may be repeated).
_Schema = dict[int, tuple[str, Any, bool]]
_DIMENSION: _Schema = {1: ("size", "int", False), 2: ("symbol", "text", False)}
_SHAPE: _Schema = {1: ("dimensions", _DIMENSION, True)}
_TENSOR_TYPE: _Schema = {1: ("kind", "int", False), 2: ("shape", _SHAPE, False)}
_TYPE: _Schema = {1: ("tensor", _TENSOR_TYPE, False)}
_VALUE: _Schema = {1: ("name", "text", False), 2: ("type", _TYPE, False)}
_CONSTANT: _Schema = {
    1: ("shape", "int", True),
    2: ("kind", "int", False),
    8: ("name", "text", False),
    9: ("data", "bytes", False),
}
_ATTRIBUTE: _Schema = {
    1: ("name", "text", False),
    2: ("float", "float", False),
    3: ("int", "int", False),
    8: ("ints", "int", True),
    20: ("kind", "int", False),
}
_NODE: _Schema = {
    1: ("inputs", "text", True),
    2: ("outputs", "text", True),
    3: ("name", "text", False),
    4: ("kind", "text", False),
    5: ("attributes", _ATTRIBUTE, True),
}
_GRAPH: _Schema = {
    1: ("nodes", _NODE, True),
    2: ("name", "text", False),
    5: ("constants", _CONSTANT, True),
    11: ("inputs", _VALUE, True),
    12: ("outputs", _VALUE, True),
}
_OPSET: _Schema = {1: ("domain", "text", False), 2: ("version", "int", False)}
_MODEL: _Schema = {
    1: ("ir_version", "int", False),
    2: ("producer", "text", False),
    7: ("graph", _GRAPH, False),
    8: ("opsets", _OPSET, True),
}


def read_graph(data: bytes) -> Graph:
    """Read the bytes of an ONNX file.

    Raises
    ------
    GraphError
        If they hold anything but a plain graph of ONNX's own operations: other fields, subgraphs,
        functions, data outside the file, types other than float32 (and int64 for shapes).
    """
    if len(data) > _MAX_BYTES:
        raise GraphError("it is larger than a network here can be")
    model = _read_message(memoryview(data), _MODEL, "model")
    opsets = [(entry.get("domain", ""), entry.get("version")) for entry in model["opsets"]]
    if len(opsets) != 1 or opsets[0][0] != "":
        raise GraphError("it asks for other operations than ONNX's own")
    if opsets[0][1] not in _OPSETS:
        raise GraphError(f"its operations are of ONNX version {opsets[0][1]}, which is not known")
    graph = _get(model, "graph", "model")
    if len(graph["nodes"]) > _MAX_NODES:
        raise GraphError(f"it has more than {_MAX_NODES} operations")
    constants = {}
    for entry in graph["constants"]:
        name = _get(entry, "name", "constant")
        if name in constants:
            raise GraphError(f"the constant {name!r} is there twice")
        constants[name] = _read_constant(entry, name)
    return Graph(
        nodes=tuple(_read_node(entry) for entry in graph["nodes"]),
        constants=constants,
        inputs=dict(_read_value(entry) for entry in graph["inputs"]),
        outputs=dict(_read_value(entry) for entry in graph["outputs"]),
    )


def _read_node(entry: dict[str, Any]) -> Node:
    kind = _get(entry, "kind", "operation")
    if len(entry["outputs"]) != 1:
        raise GraphError(f"the operation {kind} has {len(entry['outputs'])} outputs")
    attributes: dict[str, Any] = {}
    for attribute in entry["attributes"]:
        name = _get(attribute, "name", "option")
        # ONNX's numbers of the types: 1 a float, 2 an integer, 7 integers.
        key = {1: "float", 2: "int", 7: "ints"}.get(_get(attribute, "kind", "option"))
        given = {part for part in ("float", "int") if part in attribute}
        given |= {"ints"} if attribute["ints"] else set()
        if key is None or name in attributes or given - {key}:
            raise GraphError(f"the option {name!r} of {kind} is of an unknown kind")
        attributes[name] = tuple(attribute["ints"]) if key == "ints" else attribute.get(key, 0)
    return Node(kind, tuple(entry["inputs"]), entry["outputs"][0], attributes)


def _read_constant(entry: dict[str, Any], name: str) -> NDArray[Any]:
    dtype = _DTYPES.get(_get(entry, "kind", "constant"))
    if dtype is None:
        raise GraphError(f"the constant {name!r} is neither float32 nor int64")
    shape, data = entry["shape"], entry.get("data", b"")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if any(length < 0 for length in shape) or size != len(data) or len(shape) > 4:
        raise GraphError(f"the constant {name!r} has {len(data)} bytes for shape {tuple(shape)}")
    return np.frombuffer(data, dtype).reshape(shape)


def _read_value(entry: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    name = _get(entry, "name", "value")
    tensor = _get(_get(entry, "type", name), "tensor", name)
    dimensions = _get(tensor, "shape", name)["dimensions"]
    sizes = tuple(dimension.get("size") for dimension in dimensions)
    if _get(tensor, "kind", name) != 1 or not sizes or sizes[0] is not None:
        raise GraphError(f"{name!r} is not a batch of float32 values")
    if not all(isinstance(size, int) and 0 < size < 1_000_000 for size in sizes[1:]):
        raise GraphError(f"{name!r} has no fixed shape")
    return name, sizes[1:]


def _get(message: dict[str, Any], key: str, name: str) -> Any:
    if key not in message:
        raise GraphError(f"the {key} of {name!r} is missing")
    return message[key]


def _read_message(data: memoryview, schema: _Schema, name: str) -> dict[str, Any]:
    """Read one message into a dictionary; repeated fields are always there, as lists."""
    message: dict[str, Any] = {key: [] for key, _, repeated in schema.values() if repeated}
    for number, wire, value in _iterate_fields(data):
        if number not in schema:
            raise GraphError(f"the {name} has a part that is not known here (field {number})")
        key, kind, repeated = schema[number]
        if kind == "int" and repeated and wire == 2:  # several in one piece
            message[key] += _read_integers(value)
            continue
        found = _convert(value, wire, kind, key)
        if repeated:
            message[key].append(found)
        elif key in message:
            raise GraphError(f"the {name} has two {key}")
        else:
            message[key] = found
    return message


_WIRE_TYPES = {"int": 0, "text": 2, "bytes": 2, "float": 5}


def _convert(value: Any, wire: int, kind: Any, name: str) -> Any:
    if wire != (2 if isinstance(kind, dict) else _WIRE_TYPES[kind]):
        raise GraphError(f"its {name} is of the wrong type")
    if isinstance(kind, dict):
        return _read_message(value, kind, name)
    if kind == "text":
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise GraphError(f"its {name} is no text") from None
    if kind == "float":
        return struct.unpack("<f", value)[0]
    return value


def _iterate_fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield (number, wire type, value) of the fields of a message."""
    position = 0
    while position < len(data):
        key, position = _read_integer(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _read_integer(data, position)
            yield number, wire, value - (1 << 64 if value >> 63 else 0)
            continue
        if wire == 2:
            length, position = _read_integer(data, position)
        elif wire == 5:
            length = 4
        else:
            raise GraphError("it is not an ONNX file of ours")
        if length > len(data) - position:
            raise GraphError("it is cut short or not an ONNX file")
        yield number, wire, data[position : position + length]
        position += length


def _read_integers(data: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(data):
        value, position = _read_integer(data, position)
        values.append(value - (1 << 64 if value >> 63 else 0))
    return values


def _read_integer(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number of up to 64 bits, seven to a byte; return it and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise GraphError("it is cut short or not an ONNX file")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
    raise GraphError("it is not an ONNX file")
