"""ONNX: intermediate values as further outputs, single operations as models of their own, both in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before

FILE = "operation.onnx"


class OnnxInside:
    """See `Inside`."""

    runs = (
        "ONNX Runtime on the CPU, every value an output: nothing is fused across operations, which the file itself, "
        "run whole, may be"
    )

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        import onnx

        self._onnx, self._model = onnx, onnx.load(str(path))
        graph = self._model.graph
        self._makes = [node.output[0] for node in graph.node]
        constants = {tensor.name for tensor in graph.initializer}
        self._reads = [[name for name in node.input if name and name not in constants] for node in graph.node]
        self._end = graph.output[0].name
        self._known = (set(nodes) & set(self._makes)) | {IMAGE, self._end}
        self._image = graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        self._types: dict[str, Any] = {IMAGE: np.uint8 if self._image else np.float32}
        self._part = cache(lambda node: part_before(node, self._makes, self._reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        names = [name for name in self._makes if name in self._known]
        model.graph.output.extend(self._onnx.ValueInfoProto(name=name) for name in names if name != self._end)
        found = _run(model.SerializeToString(), {IMAGE: self._fed(x)}, names)
        self._types |= {name: value.dtype for name, value in found.items()}
        return found

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        return _run(self._cut(node), self._native(node, given), [node])[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        return "without graph optimisation", _run(self._cut(node), self._native(node, given), [node], plain=True)[node]

    def save(self, node: str, folder: Path) -> str:
        (folder / FILE).write_bytes(self._cut(node))
        return SCRIPT

    def _native(self, node: str, given: Mapping[str, Array]) -> dict[str, Array]:
        """In the element types of the file; the image as the file's own input takes it."""
        return {
            name: self._fed(given[name]) if name == IMAGE else np.ascontiguousarray(given[name], self._types[name])
            for name in self._part(node).inputs
        }

    def _fed(self, x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if self._image else x, self._types[IMAGE])

    def _cut(self, node: str) -> bytes:
        """The model of one value."""
        helper, part = self._onnx.helper, self._part(node)
        steps = [self._model.graph.node[i] for i in part.steps]
        used = {name for step in steps for name in step.input}
        weights = [tensor for tensor in self._model.graph.initializer if tensor.name in used]
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(self._types[name])), None)
            for name in part.inputs
        ]
        graph = helper.make_graph(steps, node, inputs, [self._onnx.ValueInfoProto(name=node)], weights)
        opsets, version = self._model.opset_import, self._model.ir_version
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=version).SerializeToString()
        return data


def _run(model: bytes, inputs: Mapping[str, Array], names: list[str], plain: bool = False) -> dict[str, Array]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, dict(inputs))))


SCRIPT = f'''
def run(inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(HERE / "{FILE}"), providers=["CPUExecutionProvider"])
    fed = {{given.name: native(given.type, value) for given, value in zip(session.get_inputs(), inputs)}}
    return session.run(None, fed)[0]


def native(kind, value):
    if kind == "tensor(uint8)":
        return numpy.ascontiguousarray(value.transpose(0, 2, 3, 1).astype("uint8"))
    return value.astype("float16" if kind == "tensor(float16)" else "float32")
'''
