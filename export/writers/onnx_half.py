"""An ONNX model whose weights are stored in float16 and computed with in float32."""

from __future__ import annotations

from typing import Any

from lightseg.export.writers.half import as_half

WORTH = 64
"""Numbers a constant needs for two bytes saved on each to pay for the Cast behind it. The mean and deviation of
baked-in preprocessing are among the shorter ones, and would lose digits."""
STORED = ".half"
"""Ending of the name of a constant as stored; what its Cast returns has the constant's own."""


def with_half_weights(data: bytes) -> bytes:
    """``data`` with every large float32 constant as float16 behind a Cast to float32.

    A runtime casts once, when it loads the file. Errors: `Unsupported` where a weight is beyond float16's range.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    constants, casts = list(model.graph.initializer), []
    for constant in constants:
        values = numpy_helper.to_array(constant)
        if constant.data_type == TensorProto.FLOAT and values.size >= WORTH:
            name = constant.name
            constant.CopyFrom(numpy_helper.from_array(as_half(name, values), name + STORED))
            casts.append(helper.make_node("Cast", [name + STORED], [name], name=name, to=TensorProto.FLOAT))
    _put_first(model.graph, casts)
    onnx.checker.check_model(model, full_check=True)
    changed: bytes = model.SerializeToString()
    return changed


def _put_first(graph: Any, nodes: list[Any]) -> None:
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
