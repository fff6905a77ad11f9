"""OpenVINO: intermediate values as further results, single operations as models of their own, on the CPU plugin."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.export.inside.part import IMAGE, Array, part_before
from lightseg.export.targets.openvino import BIN, XML

FILE = "file.openvino"
ASKED = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


class OpenVinoInside:
    """See `Inside`."""

    runs = (
        "OpenVINO's CPU plugin in float32, every value a result: nothing is fused across operations, which the file "
        "itself, run whole, may be"
    )

    def __init__(self, path: Path, nodes: Collection[str]) -> None:
        import openvino as ov

        self._path, self._ov, self._core = path, ov, ov.Core()
        self._model = self._core.read_model(str(path / XML), str(path / BIN))
        self._image = self._model.input(0).get_element_type() == ov.Type.u8
        wanted = {*nodes, IMAGE}
        steps = [(op, _name(op, wanted)) for op in _computing(self._model)]
        names = {op.get_friendly_name(): name for op, name in steps}
        makes = [name for _, name in steps if name != IMAGE]
        reads = [_sources(op, names) for op, name in steps if name != IMAGE]
        self._known = wanted & {*makes, IMAGE}
        self._part = cache(lambda node: part_before(node, makes, reads, self._known))

    def values(self, x: Array) -> dict[str, Array]:
        model = self._model.clone()
        present = {name for port in model.outputs for name in port.get_names()}
        names = sorted(self._known - {IMAGE})
        model.add_outputs([name for name in names if name not in present])
        return self._run(model, {IMAGE: x}, names)

    def reads(self, node: str) -> tuple[str, ...]:
        return self._part(node).inputs

    def alone(self, node: str, given: Mapping[str, Array]) -> Array:
        model = self._model.clone()
        ports = {name: port for op in model.get_ops() for port in op.outputs() for name in port.get_names()}
        inputs = []
        for name in self.reads(node):
            port = ports[name]
            fresh = self._ov.opset13.parameter(port.get_partial_shape(), port.get_element_type(), name)
            fresh.output(0).set_names({f"given.{name}"})
            for reader in port.get_target_inputs():
                reader.replace_source_output(fresh.output(0))
            inputs.append(fresh)
        part = self._ov.Model([self._ov.opset13.result(ports[node])], inputs, "part")
        return self._run(part, {f"given.{name}": given[name] for name in self.reads(node)}, [node])[node]

    def second_opinion(self, node: str, given: Mapping[str, Array]) -> tuple[str, Array] | None:
        return None

    def save(self, node: str, folder: Path) -> str:
        """The whole artifact: the operation is cut out of it when it is run."""
        shutil.copytree(self._path, folder / FILE)
        return SCRIPT.format(node=node)

    def _run(self, model: Any, given: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
        compiled = self._core.compile_model(model, "CPU", ASKED)
        request = compiled.create_infer_request()
        for name, value in given.items():
            native = value.transpose(0, 2, 3, 1) if self._image and name in (IMAGE, f"given.{IMAGE}") else value
            dtype = compiled.input(name).get_element_type().to_dtype()
            request.set_tensor(name, self._ov.Tensor(np.ascontiguousarray(native, dtype)))
        request.infer()
        return {name: np.array(request.get_tensor(name).data) for name in names}


def _computing(model: Any) -> Iterator[Any]:
    """The operations in order, without constants and results."""
    return (op for op in model.get_ordered_ops() if op.get_type_name() not in ("Constant", "Result"))


def _name(op: Any, wanted: Collection[str]) -> str:
    """The wanted name among those of an operation's value, else the operation's own."""
    names = sorted(op.output(0).get_names() & set(wanted))
    return str(names[0] if names else op.get_friendly_name())


def _sources(op: Any, names: Mapping[str, str]) -> list[str]:
    sources = (port.get_source_output().get_node().get_friendly_name() for port in op.inputs())
    return [names[source] for source in sources if source in names]


SCRIPT = f'''
def run(inputs):
    from lightseg.export.inside.openvino import OpenVinoInside

    return OpenVinoInside(HERE / "{FILE}", ["{{node}}", *NAMES]).alone("{{node}}", dict(zip(NAMES, inputs)))
'''
