"""TFLite: intermediate values as further outputs, single operations as models of their own, both in LiteRT."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before

FILE = "operation.tflite"


class TfliteInside:
    """See `Inside`. Values are made outputs: preserving all tensors would need other kernels than the delegate's."""

    runs = (
        "LiteRT with its XNNPACK delegate, every value an output: the delegate's own kernels, but nothing is fused "
        "across operations, which the file itself, run whole, may be"
    )

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        from lightseg.export.writers.flatbuffer import unpack

        self._model = unpack(path.read_bytes())
        graph = self._graph = self._model.subgraphs[0]
        names = [tensor.name.decode() for tensor in graph.tensors]
        constant = [self._model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
        self._index = {name: i for i, name in enumerate(names) if not constant[i]}
        self._makes = [names[op.outputs[0]] for op in graph.operators]
        self._reads = [[names[i] for i in op.inputs if i >= 0 and not constant[i]] for op in graph.operators]
        self._known = (set(nodes) & set(self._makes)) | {IMAGE, names[graph.outputs[0]]}
        self._part = cache(lambda node: part_before(node, self._makes, self._reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        names = [name for name in self._makes if name in self._known]
        return _run(self._with(range(len(self._makes)), [IMAGE], names), [x], names)

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        return _run(self._cut(node), [given[name] for name in self.reads(node)], [node])[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        found = _run(self._cut(node), [given[name] for name in self.reads(node)], [node], plain=True)
        return "built-in kernels, no delegate", found[node]

    def save(self, node: str, folder: Path) -> str:
        (folder / FILE).write_bytes(self._cut(node))
        return SCRIPT

    def _cut(self, node: str) -> bytes:
        part = self._part(node)
        return self._with(part.steps, list(part.inputs), [node])

    def _with(self, steps: Collection[int], inputs: list[str], outputs: list[str]) -> bytes:
        """The model of some operators; arrays none of them reads are left out."""
        from lightseg.export.writers.flatbuffer import pack

        model, graph = copy.copy(self._model), copy.copy(self._graph)
        graph.operators = [self._graph.operators[i] for i in sorted(steps)]
        graph.inputs = np.array([self._index[name] for name in inputs], np.int32)
        graph.outputs = np.array([self._index[name] for name in outputs], np.int32)
        used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
        place = {old: new for new, old in enumerate(sorted(used | set(map(int, graph.inputs))))}
        graph.tensors = [self._graph.tensors[old] for old in place]
        graph.inputs, graph.outputs = _placed(graph.inputs, place), _placed(graph.outputs, place)
        graph.operators = [_moved(op, place) for op in graph.operators]
        kept = {tensor.buffer for tensor in graph.tensors}
        empty = self._model.buffers[0]
        model.buffers = [buffer if i in kept else empty for i, buffer in enumerate(self._model.buffers)]
        model.subgraphs, model.signatureDefs, model.metadata = [graph], None, None
        return pack(model)


def _moved(operator: Any, place: Mapping[int, int]) -> Any:
    """An operator in a graph whose tensors have other places."""
    moved = copy.copy(operator)
    moved.inputs, moved.outputs = _placed(operator.inputs, place), _placed(operator.outputs, place)
    return moved


def _placed(indices: Array, place: Mapping[int, int]) -> Array:
    """Negative ones stand for inputs that are left out."""
    return np.array([place[i] if i >= 0 else i for i in map(int, indices)], np.int32)


def _run(model: bytes, inputs: list[Array], names: list[str], plain: bool = False) -> dict[str, Array]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kinds = OpResolverType
    kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else kinds.AUTO
    interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs):
        native = np.ascontiguousarray(value.transpose(0, 2, 3, 1), detail["dtype"])
        interpreter.set_tensor(detail["index"], native)
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {name: interpreter.get_tensor(d["index"]).transpose(0, 3, 1, 2) for name, d in zip(names, details)}


SCRIPT = f'''
def run(inputs):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(HERE / "{FILE}"))
    interpreter.allocate_tensors()
    for given, value in zip(interpreter.get_input_details(), inputs):
        native = numpy.ascontiguousarray(value.transpose(0, 2, 3, 1), given["dtype"])
        interpreter.set_tensor(given["index"], native)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).transpose(0, 3, 1, 2)
'''
