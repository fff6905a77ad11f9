"""A float32 ONNX model as a strongly typed one: in TensorRT the types in the graph are the precision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lightseg.export.writers.half import as_half

PARAMETERS = {"Resize": (1, 2)}
"""Inputs that say how and not on what, by operation: they stay float32 whatever the values are."""
WIDE, HALF = ".float", "_half"
"""Endings of the names of a constant's float32 copy and of a value's float16 copy."""


def typed(data: bytes, precision: str) -> bytes:
    """The same network with every value in the type ``precision`` asks for, between its own input and output types.

    For fp16 the normalisation of an image stays float32, because its factors (near 6e-5) lose digits in float16. What
    is quantised says so by itself in its graph, between QuantizeLinear and DequantizeLinear.

    Errors: `Unsupported` where a constant is beyond float16's range.
    """
    import onnx

    model = onnx.load_from_string(data)
    _cast_images_first(model.graph)
    _float_biases(model.graph)
    if precision == "fp16":
        _in_halves(model.graph)
    onnx.checker.check_model(model, full_check=True)
    changed: bytes = model.SerializeToString()
    return changed


def _cast_images_first(graph: Any) -> None:
    """TensorRT moves no uint8: a transposition of the image and the cast behind it change places."""
    from onnx import TensorProto, helper

    image = graph.input[0]
    if image.type.tensor_type.elem_type != TensorProto.UINT8:
        return
    turned, cast = graph.node[0], graph.node[1]
    order = helper.get_node_attr_value(turned, "perm")
    to = helper.get_node_attr_value(cast, "to")
    wide = cast.output[0] + "_wide"
    first = helper.make_node("Cast", [image.name], [wide], name=wide, to=to)
    second = helper.make_node("Transpose", [wide], [cast.output[0]], name=cast.name, perm=order)
    turned.CopyFrom(first)
    cast.CopyFrom(second)


def _float_biases(graph: Any) -> None:
    """TensorRT takes biases as floats and rounds them itself: int32 ones become the numbers they stand for."""
    from onnx import TensorProto, numpy_helper

    constants = {c.name: c for c in graph.initializer}
    for node in list(graph.node):
        stored = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if stored is not None and stored.data_type == TensorProto.INT32:
            integers, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
            values = (integers.astype(np.float64) * scale).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for unread in [c for c in graph.initializer if c.name not in read]:
        graph.initializer.remove(unread)


def _in_halves(graph: Any) -> None:
    """Everything between two casts is float16; the constants are rounded here, and refused where they do not fit."""
    from onnx import TensorProto, helper

    nodes = list(graph.node)
    start = _wide_prefix(graph)
    halves = {name for node in nodes[start:] for _, name in _values(node)}
    wide = {name for node in nodes[:start] for name in node.input}
    wide |= {
        name for node in nodes[start:] for i, name in enumerate(node.input) if i in PARAMETERS.get(node.op_type, ())
    }
    _round_constants(graph, halves, wide)
    for i, node in enumerate(nodes):
        kept = range(len(node.input)) if i < start else PARAMETERS.get(node.op_type, ())
        for j in kept:
            if node.input[j] in halves & wide:
                node.input[j] += WIDE
    entry = nodes[start - 1].output[0] if start else graph.input[0].name
    for node in nodes[start:]:
        for j, name in enumerate(node.input):
            node.input[j] = name + HALF if name == entry else name
    first = helper.make_node("Cast", [entry], [entry + HALF], name=entry + HALF, to=TensorProto.FLOAT16)
    nodes.insert(start, first)
    nodes += _cast_back(graph, nodes[-1])
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def _wide_prefix(graph: Any) -> int:
    """How many nodes at the start turn an image into a normalised float32 map."""
    from onnx import TensorProto

    is_image = graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    return 3 if is_image else 0


def _values(node: Any) -> Iterator[tuple[int, str]]:
    """The inputs a node computes on."""
    kept = PARAMETERS.get(node.op_type, ())
    return ((i, name) for i, name in enumerate(node.input) if i not in kept)


def _round_constants(graph: Any, halves: set[str], wide: set[str]) -> None:
    from onnx import TensorProto, numpy_helper

    constants = list(graph.initializer)
    del graph.initializer[:]
    for constant in constants:
        name = constant.name
        if constant.data_type != TensorProto.FLOAT or name not in halves:
            graph.initializer.append(constant)
            continue
        values = numpy_helper.to_array(constant)
        graph.initializer.append(numpy_helper.from_array(as_half(name, values).reshape(values.shape), name))
        if name in wide:
            graph.initializer.append(numpy_helper.from_array(np.array(values), name + WIDE))


def _cast_back(graph: Any, last: Any) -> list[Any]:
    """A float output is float32; masks are whole numbers already."""
    from onnx import TensorProto, helper

    output = graph.output[0]
    if output.type.tensor_type.elem_type != TensorProto.FLOAT:
        return []
    last.output[0] = output.name + HALF
    return [helper.make_node("Cast", [output.name + HALF], [output.name], name=output.name, to=TensorProto.FLOAT)]
