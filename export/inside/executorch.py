"""ExecuTorch: the file's own delegate graph, with other values as its ends, in ExecuTorch's runtime."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.targets.executorch import program_of, quiet, runtime_method
from lightseg.export.writers.pte import read_pte, split, write_pte
from lightseg.export.writers.xnnpack_graph import INPUT, NOTHING, OUTPUT, XnnGraph, tensor_of

FILE = "file.pte"
KINDS = {1: np.float32, 2: np.float16, 3: np.int8}
"""Element types by the schema's number."""


class ExecuTorchInside:
    """See `Inside`. Values inside are channels last; the image and the answer are as the network has them."""

    runs = (
        "ExecuTorch's XNNPACK delegate, every value an output: the file's own kernels, but nothing is fused across "
        "operations, which the file itself, run whole, may be"
    )

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        self._path = path
        with quiet():
            self._file = read_pte(program_of(path))
        names = _told_apart(split(path.read_bytes())[1]["values"])
        self._id = {name: identity for identity, name in enumerate(names) if name}
        self._value = {tensor.id_out: tensor for tensor in map(tensor_of, self._file.graph.xvalues)}
        steps = [node.xnode_union for node in self._file.graph.xnodes]
        self._makes = [names[step.output_id] for step in steps]
        self._reads = [[names[i] for i in _inputs(step) if names[i]] for step in steps]
        self._end = names[self._file.graph.output_ids[0]]
        self._known = (set(nodes) & set(self._makes)) | {IMAGE, self._end}
        self._part = cache(lambda node: part_before(node, self._makes, self._reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        names = [name for name in self._makes if name in self._known]
        return self._run(range(len(self._makes)), {IMAGE: x}, names)

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        return self._run(self._part(node).steps, {name: given[name] for name in self.reads(node)}, [node])[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        return None

    def save(self, node: str, folder: Path) -> str:
        """The whole file: the operation is cut out of it when it is run."""
        shutil.copy(self._path, folder / FILE)
        return SCRIPT.format(node=node)

    def _run(self, steps: Collection[int], given: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        import torch

        with quiet():
            method, _program = runtime_method(write_pte(self._with(steps, list(given), wanted)))
        native = [self._turned(name, value, (0, 2, 3, 1)) for name, value in given.items()]
        kinds = [KINDS[int(self._value[self._id[name]].datatype)] for name in given]
        method.set_inputs([torch.from_numpy(np.ascontiguousarray(v, kind)) for v, kind in zip(native, kinds)])
        method.execute()
        found = zip(wanted, map(_as_array, method.get_outputs()))
        return {name: self._turned(name, value, (0, 3, 1, 2)) for name, value in found}

    def _turned(self, name: str, value: Array, order: tuple[int, ...]) -> Array:
        return value if name in (IMAGE, self._end) else value.transpose(order)

    def _with(self, steps: Collection[int], inputs: Sequence[str], outputs: Sequence[str]) -> XnnGraph:
        """The graph of some steps between other ends; what none of them reads is left out."""
        graph = copy.copy(self._file.graph)
        graph.xnodes = [self._file.graph.xnodes[i] for i in sorted(steps)]
        ends = {self._id[name]: (INPUT, i) for i, name in enumerate(inputs)}
        ends |= {self._id[name]: (OUTPUT, len(inputs) + i) for i, name in enumerate(outputs)}
        used = {i for node in graph.xnodes for i in (*_inputs(node.xnode_union), node.xnode_union.output_id)}
        graph.xvalues = [self._placed(value, ends) for value in graph.xvalues if tensor_of(value).id_out in used]
        graph.num_externs = len(ends)
        graph.input_ids = [self._id[name] for name in inputs]
        graph.output_ids = [self._id[name] for name in outputs]
        return XnnGraph(graph, self._file.constants)

    def _placed(self, value: Any, ends: Mapping[int, tuple[int, int]]) -> Any:
        moved = copy.deepcopy(value)
        tensor = tensor_of(moved)
        tensor.flags, tensor.external_id = ends.get(tensor.id_out, (0, NOTHING))
        return moved


def _as_array(output: Any) -> Array:
    """float32, or the integers of a grid as they are."""
    array: Array = (output.float() if output.is_floating_point() else output).numpy()
    return array


def _told_apart(names: Sequence[str]) -> list[str]:
    """The answer's name stands twice where it is turned to channels first at the end: the last one is meant."""
    last = {name: i for i, name in enumerate(names)}
    return [name if not name or last[name] == i else f"{name}, channels last" for i, name in enumerate(names)]


def _inputs(step: Any) -> Iterator[int]:
    """The ids a node reads."""
    for name, value in vars(step).items():
        if name.endswith("_id") and name != "output_id" and value != NOTHING:
            yield value


SCRIPT = f'''
def run(inputs):
    from lightseg.export.inside.executorch import ExecuTorchInside

    return ExecuTorchInside(HERE / "{FILE}", ["{{node}}", *NAMES]).alone("{{node}}", dict(zip(NAMES, inputs)))
'''
