"""Counts from a TFLite file, by the conventions of `lightseg.benchmarks.counting.cost`."""

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

COUNTER = "lightseg.benchmarks.counting.tflite_file"
TRANSPOSE_CONV: tuple[Role, ...] = ("constant", "weight", "constant", "bias")
"""Its first input is the shape of the output."""
BYTES = {
    "FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "UINT8": 1, "INT64": 8, "BOOL": 1, "INT16": 2, "INT8": 1, "FLOAT64": 8,
    "UINT32": 4, "UINT16": 2, "UINT64": 8, "BFLOAT16": 2,
}  # fmt: skip


def count_tflite(path: str | Path) -> Cost:
    """The cost of the first subgraph of the TFLite file at ``path``.

    Errors: `BadInput` for a file that is no TFLite model or whose shapes are symbolic; `Unsupported` for an operator
    that multiplies and accumulates but has no rule; `MissingExtra` without the ai-edge-litert package.
    """
    path = Path(path)
    return _Graph(*parse_tflite(path), path).count()


def parse_tflite(path: Path) -> tuple[Any, Any]:
    """The schema module and the file's unpacked model. Errors: `BadInput`, `MissingExtra`."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise MissingExtra("counting a TFLite file", "tflite", "ai-edge-litert") from error
    if not path.is_file():
        raise BadInput(f"no file {path}; check the path")
    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise ValueError("no TFL3 mark")
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        if not model.subgraphs or not model.subgraphs[0].operators:
            raise ValueError("no operators")
        return schema, model
    except Exception as error:  # a damaged flatbuffer fails in many ways
        raise BadInput(f"{path} is not a readable TFLite model ({type(error).__name__}); export it again") from error


class _Graph:
    """The operators and tensors of one TFLite model."""

    def __init__(self, schema: Any, model: Any, path: Path) -> None:
        self.builtin = _names(schema.BuiltinOperator)
        self.types = _names(schema.TensorType)
        self.model, self.graph, self.path = model, model.subgraphs[0], path
        self.unpacked = {
            int(op.outputs[0]): int(op.inputs[0])
            for op in self.graph.operators
            if self.op_name(op) == "DEQUANTIZE" and self.data(op.inputs[0]) is not None
        }

    def count(self) -> Cost:
        ops = [self.op(operator) for operator in self.graph.operators if operator.outputs[0] not in self.unpacked]
        tensors = {str(i): self.tensor(t) for i, t in enumerate(self.graph.tensors)}
        given, asked = (map(str, indices) for indices in (self.graph.inputs, self.graph.outputs))
        return total(self.path.name, ops, tensors, given, asked)

    def tensor(self, tensor: Any) -> Tensor:
        shape = () if tensor.shape is None else tuple(int(d) for d in tensor.shape)
        if tensor.shapeSignature is not None and (np.asarray(tensor.shapeSignature) < 0).any():
            raise BadInput(f"{self.path}: the shape of {tensor.name!r} is not fixed; count a static export")
        return Tensor(shape, prod(shape) * BYTES[self.types[tensor.type]])

    def op(self, operator: Any) -> Op:
        name = self.op_name(operator)
        kind = kind_of(name, COUNTER)
        inputs = [self.stored(i) for i in operator.inputs if i >= 0]
        return Op(
            name=_text(self.graph.tensors[operator.outputs[0]].name),
            op=name,
            kind=kind,
            inputs=tuple(str(i) for i in inputs if self.data(i) is None),
            outputs=tuple(str(i) for i in operator.outputs),
            constants=tuple(self.constants(operator, name)),
            macs=self.macs(operator, kind),
            taps=self.taps(operator) if kind in CONVOLUTIONS else 1,
        )

    def op_name(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        if code.customCode:
            return _text(code.customCode)
        return self.builtin[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def stored(self, index: int) -> int:
        """The tensor in the file behind one that is only unpacked (float16 weights, for instance)."""
        return self.unpacked.get(int(index), int(index))

    def data(self, index: int) -> np.ndarray[Any, Any] | None:
        """The raw bytes of a stored tensor; None for an activation."""
        buffer = self.model.buffers[self.graph.tensors[index].buffer]
        return None if buffer.data is None or len(buffer.data) == 0 else buffer.data

    def constants(self, operator: Any, name: str) -> Iterator[Constant]:
        slots = TRANSPOSE_CONV if name == "TRANSPOSE_CONV" else roles(name)
        for slot, index in enumerate(self.stored(i) for i in operator.inputs):
            data = None if index < 0 else self.data(index)
            if data is None:
                continue
            tensor = self.tensor(self.graph.tensors[index])
            role = slots[slot] if slot < len(slots) else self.loose_role(name, index)
            if role == "bias" and not np.any(data):
                role = "zero bias"
            yield Constant(f"{operator.outputs[0]}:{slot}", role, prod(tensor.shape), tensor.bytes)

    def loose_role(self, name: str, index: int) -> Role:
        """A per-channel constant of an element-wise operator is half of an affine."""
        tensor = self.graph.tensors[index]
        single = prod(self.tensor(tensor).shape) == 1
        return (
            "affine"
            if plain(name) in AFFINE and self.types[tensor.type].startswith("FLOAT") and not single
            else "constant"
        )

    def taps(self, operator: Any) -> int:
        """Height times width of the weights, which stand second: O, kh, kw, I or 1, kh, kw, O."""
        return prod(self.tensor(self.graph.tensors[operator.inputs[1]]).shape[1:3])

    def macs(self, operator: Any, kind: Kind) -> int:
        shapes = [self.tensor(self.graph.tensors[i]).shape if i >= 0 else () for i in operator.inputs]
        output = self.tensor(self.graph.tensors[operator.outputs[0]]).shape
        if kind == "conv":  # weights are O, kh, kw, I/groups
            return conv_macs(output, shapes[1][1:3], shapes[1][3])
        if kind == "depthwise":  # weights are 1, kh, kw, O
            return conv_macs(output, shapes[1][1:3], 1)
        if kind == "transposed conv":  # weights are O, kh, kw, I
            data = shapes[2] if self.op_name(operator) == "TRANSPOSE_CONV" else shapes[0]
            return transposed_conv_macs(data, shapes[1][1:3], shapes[1][0])
        return prod(output) * shapes[1][1] if kind == "linear" else 0


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
