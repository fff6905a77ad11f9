"""Counts from an ONNX file, by the conventions of `lightseg.benchmarks.counting.cost`."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lightseg.benchmarks.counting.cost import (
    CONVOLUTIONS,
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
from lightseg.errors import BadInput, MissingExtra

COUNTER = "lightseg.benchmarks.counting.onnx_file"


def count_onnx(path: str | Path) -> Cost:
    """The cost of the ONNX file at ``path``, which must have fixed shapes.

    Errors: `BadInput` for a file that is no ONNX model or whose shapes are symbolic; `Unsupported` for an operator
    that multiplies and accumulates but has no rule; `MissingExtra` without the onnx package.
    """
    return _Graph(_inferred(Path(path))).count(Path(path).name)


def _inferred(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("counting an ONNX file", "onnx", "onnx") from error
    if not path.is_file():
        raise BadInput(f"no file {path}; check the path")
    try:
        model = onnx.load(str(path))
        return onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf and the C++ checker raise their own types on damaged files
        raise BadInput(f"{path} is not a readable ONNX model ({type(error).__name__}); export it again") from error


class _Graph:
    """The tensors and constants of one ONNX graph, by name."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.stored: dict[str, np.ndarray[Any, Any]] = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self.stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Cast" and node.input[0] in self.stored:  # weights in half: cast once, at loading
                self.stored[node.output[0]] = self.stored[node.input[0]]
        self.nodes = [node for node in graph.node if node.output[0] not in self.stored]
        self.given = [i.name for i in graph.input if i.name not in self.stored]
        self.asked = [o.name for o in graph.output]
        infos = (*graph.input, *graph.value_info, *graph.output)
        self.tensors = {i.name: _tensor(i) for i in infos if i.type.HasField("tensor_type")}
        self.writers = {name: node for node in self.nodes for name in node.output}

    def count(self, source: str) -> Cost:
        return total(source, [self.op(node) for node in self.nodes], self.tensors, self.given, self.asked)

    def op(self, node: Any) -> Op:
        missing = [name for name in node.output if name and name not in self.tensors]
        if missing:
            raise BadInput(f"{node.op_type} {node.name}: the shape of {missing[0]} is unknown; export it again")
        kind = self.kind(node)
        return Op(
            name=node.name or node.output[0],
            op=node.op_type,
            kind=kind,
            inputs=tuple(name for name in node.input if name and name not in self.stored),
            outputs=tuple(name for name in node.output if name),
            constants=tuple(self.constants(node)),
            macs=self.macs(node, kind),
            taps=prod(self.shape(node.input[1])[2:]) if kind in CONVOLUTIONS else 1,
        )

    def kind(self, node: Any) -> Kind:
        kind = kind_of(node.op_type, COUNTER)
        depthwise = kind == "conv" and self.shape(node.input[1])[1] == 1 and _attribute(node, "group", 1) > 1
        return "depthwise" if depthwise else kind

    def constants(self, node: Any) -> Iterator[Constant]:
        slots = ("weight", "weight") if node.op_type == "MatMul" else roles(node.op_type)
        for slot, name in enumerate(node.input):
            if name in self.stored:
                value = self.stored[name]
                role = slots[slot] if slot < len(slots) else self.loose_role(node, value)
                if role == "bias" and not value.any():
                    role = "zero bias"
                yield Constant(f"{node.output[0]}:{slot}", role, value.size, value.nbytes)

    def loose_role(self, node: Any, value: np.ndarray[Any, Any]) -> Role:
        """A per-channel constant of an element-wise operator: a slope behind min(x, 0), else half of an affine."""
        if plain(node.op_type) not in AFFINE or value.dtype.kind != "f" or value.size == 1:
            return "constant"
        sources = [self.writers[name].op_type for name in node.input if name in self.writers]
        return "slope" if node.op_type == "Mul" and sources == ["Min"] else "affine"

    def macs(self, node: Any, kind: Kind) -> int:
        if kind in ("conv", "depthwise"):
            weight = self.shape(node.input[1])
            return conv_macs(self.shape(node.output[0]), weight[2:], weight[1])
        if kind == "transposed conv":
            weight = self.shape(node.input[1])
            return transposed_conv_macs(self.shape(node.input[0]), weight[2:], weight[1])
        if kind == "linear":
            transposed = node.op_type == "Gemm" and _attribute(node, "transA", 0)
            inner = self.shape(node.input[0])[-2 if transposed else -1]
            return prod(self.shape(node.output[0])) * inner
        return 0

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.stored[name].shape) if name in self.stored else self.tensors[name].shape


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _tensor(info: Any) -> Tensor:
    from onnx import helper

    kind = info.type.tensor_type
    for dimension in kind.shape.dim:
        if not dimension.HasField("dim_value"):
            raise BadInput(
                f"the size of {info.name} is not fixed ({dimension.dim_param or 'unknown'}); "
                "count a static export (without --dynamic)"
            )
    shape = tuple(int(d.dim_value) for d in kind.shape.dim)
    return Tensor(shape, prod(shape) * int(helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize))
