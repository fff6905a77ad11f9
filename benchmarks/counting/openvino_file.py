"""Counts from an OpenVINO folder, by the conventions of `lightseg.benchmarks.counting.cost`.

The XML holds more than is run: what hangs on constants and shapes alone is folded when the model is compiled, so it
counts as the constant it becomes. Biases are additions of their own there and counted as such.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from lightseg.benchmarks.counting.cost import (
    CONVOLUTIONS,
    MAC_KINDS,
    Constant,
    Cost,
    Kind,
    Op,
    Role,
    Tensor,
    conv_macs,
    total,
    transposed_conv_macs,
)
from lightseg.benchmarks.counting.operators import AFFINE, kind_of, plain, roles
from lightseg.errors import BadInput
from lightseg.export.targets.folder import member
from lightseg.export.targets.openvino import BIN, XML

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

COUNTER = "lightseg.benchmarks.counting.openvino_file"
BYTES = {
    "f32": 4, "f16": 2, "bf16": 2, "f64": 8, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u8": 1, "u16": 2, "u32": 4,
    "u64": 8, "boolean": 1, "bool": 1, "fp32": 4, "fp16": 2, "fp64": 8,
}  # fmt: skip
CONSTANT = ("Const", "ShapeOf", "Result")
Port = tuple[str, str]
"""A layer's and a port's number."""


def count_openvino(folder: Path) -> Cost:
    """The cost of the model in ``folder``. Errors: `BadInput` for a file that is none or whose shapes are not fixed."""
    from xml.etree import ElementTree

    path, weights = member(folder, XML), member(folder, BIN).read_bytes()
    try:
        root = ElementTree.parse(path).getroot()
        return _Graph(root, weights).count(folder.name)
    except (ElementTree.ParseError, AttributeError, KeyError, ValueError, IndexError) as error:
        raise BadInput(f"{path} is no readable OpenVINO model ({type(error).__name__}: {error})") from error


class _Graph:
    """Layers in file order, which is one of execution, and where every input comes from."""

    def __init__(self, root: Element, weights: bytes) -> None:
        self.weights = weights
        self.layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
        self.sources: dict[Port, Port] = {
            (edge.attrib["to-layer"], edge.attrib["to-port"]): (edge.attrib["from-layer"], edge.attrib["from-port"])
            for edge in root.iterfind("edges/edge")
        }
        self.run = self._run()

    def _run(self) -> set[str]:
        """The layers that depend on the image."""
        found: set[str] = set()
        for number, layer in self.layers.items():
            kind = layer.attrib["type"]
            fed = any(self.sources[number, port][0] in found for port in _ports(layer, "input"))
            if kind == "Parameter" or (kind not in CONSTANT and fed):
                found.add(number)
        return found

    def count(self, source: str) -> Cost:
        kinds = {number: self.layers[number].attrib["type"] for number in self.run}
        tensors = {
            f"{number}:{port}": _tensor(element)
            for number in self.run
            for port, element in _ports(self.layers[number], "output").items()
        }
        given = [name for name in tensors if kinds[name.partition(":")[0]] == "Parameter"]
        results = [n for n, layer in self.layers.items() if layer.attrib["type"] == "Result"]
        asked = [":".join(self.sources[n, port]) for n in results for port in _ports(self.layers[n], "input")]
        ops = [self.op(number) for number in self.layers if number in self.run and kinds[number] != "Parameter"]
        return total(source, ops, tensors, given, asked)

    def op(self, number: str) -> Op:
        layer = self.layers[number]
        name = layer.attrib["type"]
        inputs, outputs = _ports(layer, "input"), _ports(layer, "output")
        shapes = [_shape(port) for port in inputs.values()]
        kind = kind_of(name, COUNTER)
        if name == "GroupConvolution" and shapes[1][2] == 1:
            kind = "depthwise"
        fed = [":".join(self.sources[number, port]) for port in inputs if self.sources[number, port][0] in self.run]
        return Op(
            name=layer.attrib["name"],
            op=name,
            kind=kind,
            inputs=tuple(fed),
            outputs=tuple(f"{number}:{port}" for port in outputs),
            constants=tuple(self.constants(number, kind)),
            macs=_macs(kind, name, shapes, next(map(_shape, outputs.values()))),
            taps=prod(shapes[1][-2:]) if kind in CONVOLUTIONS else 1,
        )

    def constants(self, number: str, kind: Kind) -> Iterator[Constant]:
        layer = self.layers[number]
        slots = roles(layer.attrib["type"])
        for slot, (port, element) in enumerate(_ports(layer, "input").items()):
            source = self.sources[number, port][0]
            if source in self.run:
                continue
            elements = prod(_shape(element))
            stored, zero = self.stored(source)
            role = slots[slot] if slot < len(slots) else self.loose_role(number, elements)
            role = "zero bias" if role == "bias" and zero else role
            yield Constant(f"{number}:{slot}", role, elements, elements * BYTES[stored or _type(element)])

    def loose_role(self, number: str, elements: int) -> Role:
        """A per-channel constant of an element-wise layer: a bias behind a convolution, a slope behind min(x, 0)."""
        layer = self.layers[number]
        ports = _ports(layer, "input")
        real = _type(next(iter(ports.values()))) in ("fp32", "fp16", "f32", "f16")
        if plain(layer.attrib["type"]) not in AFFINE or elements == 1 or not real:
            return "constant"
        writers = [self.layers[self.sources[number, port][0]].attrib["type"] for port in ports]
        if layer.attrib["type"] == "Add" and any(kind_of(writer) in MAC_KINDS for writer in writers):
            return "bias"
        return "slope" if layer.attrib["type"] == "Multiply" and "Minimum" in writers else "affine"

    def stored(self, number: str) -> tuple[str, bool]:
        """The type a folded constant is stored in, and whether it is all zero; an empty type where it is computed."""
        layer = self.layers[number]
        if layer.attrib["type"] == "Const":
            data = layer.find("data")
            assert data is not None
            start, size = int(data.attrib["offset"]), int(data.attrib["size"])
            return data.attrib["element_type"], not any(self.weights[start : start + size])
        first = next(iter(_ports(layer, "input")), None)
        if first is None or layer.attrib["type"] not in ("Reshape", "Convert", "Unsqueeze", "Squeeze", "Transpose"):
            return "", False
        return self.stored(self.sources[number, first][0])


def _macs(kind: Kind, name: str, shapes: list[tuple[int, ...]], made: tuple[int, ...]) -> int:
    if kind not in MAC_KINDS:
        return 0
    weight = shapes[1]
    if kind == "linear":
        return prod(made) * shapes[0][-1]
    grouped = len(weight) - len(shapes[0])  # groups have a dimension of their own, in front
    if kind == "transposed conv":
        return transposed_conv_macs(shapes[0], weight[2 + grouped :], weight[1 + grouped])
    return conv_macs(made, weight[2 + grouped :], weight[1 + grouped])


def _ports(layer: Element, side: str) -> dict[str, Element]:
    return {port.attrib["id"]: port for port in layer.iterfind(f"{side}/port")}


def _shape(port: Element) -> tuple[int, ...]:
    shape = tuple(int(dim.text or "") for dim in port.iterfind("dim"))
    if any(extent < 0 for extent in shape):
        raise BadInput("a shape is not fixed; count a static export (without --dynamic)")
    return shape


def _type(port: Element) -> str:
    return port.attrib["precision"].lower()


def _tensor(port: Element) -> Tensor:
    shape = _shape(port)
    return Tensor(shape, prod(shape) * BYTES[_type(port)])
