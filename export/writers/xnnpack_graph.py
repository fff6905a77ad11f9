"""A graph of ExecuTorch's XNNPACK delegate while it is being made: values by id, constants by hash, names for ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.writers.half import as_half

INPUT, OUTPUT = 1, 2
"""Flags of values the delegate is given and gives."""
NOTHING = 2**32 - 1
"""The id of a value that is left out."""
ELSEWHERE = 2**64 - 1
"""The offset of a constant that is found by its name."""


@dataclass
class XnnGraph:
    """What the delegate is given: the graph in ExecuTorch's own schema, its constants by hash, its values' names."""

    graph: Any
    constants: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """By the value's id; constants have none."""


Grid = tuple[float, int]
"""Scale and zero point of an int8 value."""
Ids = list[int]
Write = Callable[["GraphWriter", fx.Node, Any, Ids], int]
"""Appends an operation on the values with these ids; returns the id of the value it makes."""


def tensor_of(value: Any) -> Any:
    """What a value of the schema says of element type, shape and place, whether it is on a grid or not."""
    union = value.xvalue_union
    return getattr(union, "tensor_value", union)


def nhwc(shape: Shape) -> Shape:
    return (shape[0], shape[2], shape[3], shape[1])


class GraphWriter:
    """Values, constants and operations, appended in the order of the graph."""

    def __init__(self, graph: fx.GraphModule, input_shape: Shape, half: bool) -> None:
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        self.schema, self.graph, self.half = schema, graph, half
        self.takes_images = any(isinstance(m, ops.FromImage) for m in graph.children())
        self.shapes = shapes(graph, input_shape)
        self.made = XnnGraph(schema.XNNGraph("0", [], [], 2, [], [], [schema.ConstantDataOffset(0, 0)]))
        self.values: dict[fx.Node, int] = {}
        self.given: dict[tuple[str, Shape], int] = {}
        self.widened: dict[fx.Node, int] = {}

    def write(self, writers: Mapping[type, Write], input_name: str, output_name: str) -> XnnGraph:
        last = next(n for n in self.graph.graph.nodes if n.op == "output").args[0]
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._input(node, input_name)
            elif node.op == "call_module":
                op = self.graph.get_submodule(str(node.target))
                read = self.values.__getitem__ if isinstance(op, QuantisedConv) else self.in_float
                self.values[node] = writers[type(op)](self, node, op, [read(source) for source in node.args])
        n, c, h, w = self.shapes[last]
        result = self.value(output_name, (n, c, h, w), OUTPUT, 1)
        first = self.value(f"{output_name}.half", (n, c, h, w)) if self.half else result
        self.transpose(self.in_float(last), first, (0, 3, 1, 2))
        if self.half:
            self.node("Convert", result, input_id=first)
        self.made.graph.output_ids.append(result)
        return self.made

    def _input(self, node: fx.Node, name: str) -> int:
        """Channels last from here on; images come as the same numbers in the same layout as everything else."""
        shape = self.shapes[node] if self.takes_images else nhwc(self.shapes[node])
        n, h, w, c = shape
        given = self.value(name, (n, c, h, w), INPUT, 0)
        self.made.graph.input_ids.append(given)
        if self.half:
            given = self.node("Convert", self.value(f"{name}.half", (n, c, h, w)), input_id=given)
        return self.transpose(given, self.value(f"{name}.last", shape), (0, 2, 3, 1))

    def transpose(self, x: int, y: int, order: Sequence[int]) -> int:
        return self.node("StaticTranspose", y, num_dims=len(order), perm=list(order), input_id=x)

    def in_float(self, node: fx.Node) -> int:
        """The id of ``node``'s value, turned back where it is one of a grid."""
        if not isinstance(op_of(self.graph, node), FakeQuantise):
            return self.values[node]
        if node not in self.widened:
            self.widened[node] = self.node("Convert", self.out(node, "_float"), input_id=self.values[node])
        return self.widened[node]

    def value(self, name: str, shape: Sequence[int], flags: int = 0, external: int = NOTHING, constant: int = 0) -> int:
        wide, narrow = self.schema.XNNDatatype.xnn_datatype_fp32, self.schema.XNNDatatype.xnn_datatype_fp16
        kind = narrow if self.half and not flags else wide
        return self._append(name, self._tensor(kind, shape, flags, external, constant))

    def _tensor(self, kind: int, shape: Sequence[int], flags: int, external: int, constant: int) -> Any:
        s, dims = self.schema, [int(extent) for extent in shape]
        return s.XNNTensorValue(s.XNNDatatype(kind), len(dims), dims, constant, external, flags, len(self.made.names))

    def _append(self, name: str, tensor: Any, grid: Any = None) -> int:
        union = tensor if grid is None else self.schema.XNNQuantizedTensorValue(tensor, grid)
        self.made.graph.xvalues.append(self.schema.XValue(union))
        self.made.names.append(name)
        return len(self.made.names) - 1

    def out(self, node: fx.Node, suffix: str = "", shape: Shape | None = None, grid: Grid | None = None) -> int:
        """The channels-last value of ``node``, or an intermediate one on the way to it; int8 with a ``grid``."""
        name, size = node.name + suffix, shape or nhwc(self.shapes[node])
        if grid is None:
            return self.value(name, size)
        int8 = self._tensor(self.schema.XNNDatatype.xnn_datatype_qint8, size, 0, NOTHING, 0)
        return self._append(name, int8, self.schema.PerTensorQuant(*grid))

    def constant(self, values: Tensor | NDArray[Any]) -> int:
        """Numbers of the network, stored once however often they occur."""
        array = as_half("the network", values) if self.half else np.ascontiguousarray(values, "<f4")
        key = hashlib.sha256(array.tobytes()).hexdigest()
        if (key, array.shape) not in self.given:
            self.given[key, array.shape] = self.value("", array.shape, constant=self._stored(array))
        return self.given[key, array.shape]

    def integers(self, values: NDArray[Any], kind: int, scale: Tensor, channels: int) -> int:
        """Whole numbers of element type ``kind``, with one ``scale`` for each index of dimension ``channels``.

        The scales are bytes like the numbers themselves, as ExecuTorch's own writer has them.
        """
        place = self._stored(np.ascontiguousarray(scale, "<f4"))
        tensor = self._tensor(kind, values.shape, 0, NOTHING, self._stored(values))
        return self._append("", tensor, self.schema.PerChannelQuant([], channels, place, len(scale)))

    def _stored(self, array: NDArray[Any]) -> int:
        """The place of these bytes in the table of constants; equal ones share what they point to."""
        data = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(data).hexdigest()
        self.made.constants[key] = data
        table = self.made.graph.constant_data
        table.append(self.schema.ConstantDataOffset(ELSEWHERE, len(data), key))
        return len(table) - 1

    def node(self, kind: str, y: int, limits: tuple[float, float] | None = None, flags: int = 0, **facts: Any) -> int:
        """Append an operation of the schema, which makes the value ``y``."""
        s = self.schema
        union = getattr(s, f"XNN{kind}")(output_id=y, flags=flags, **facts)
        between = limits and s.OutputMinMax(*(bound if np.isfinite(bound) else str(bound) for bound in limits))
        self.made.graph.xnodes.append(s.XNode(union, len(self.made.graph.xnodes), between))
        return y

    def size_in(self, node: fx.Node, index: int = 0) -> Shape:
        source = node.args[index]
        assert isinstance(source, fx.Node)
        return self.shapes[source]
