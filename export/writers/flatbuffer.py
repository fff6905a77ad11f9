"""A TFLite flatbuffer under construction: tensors, constants, operators. No TensorFlow, only the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "uint8": "UINT8", "int8": "INT8", "bool": "BOOL",
}  # fmt: skip


class FlatModel:
    """One subgraph. Tensors are numbered in the order they are made; equal constants are stored once."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = b"lightseg"
        self.model.operatorCodes, self.model.buffers, self.model.metadata = [], [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.name, self.graph.tensors, self.graph.operators = b"main", [], []
        self.model.subgraphs = [self.graph]
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[bytes, tuple[int, ...], str], int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32", data: bytes | None = None) -> int:
        """A new tensor; ``data`` makes it a constant."""
        t = self.schema.TensorT()
        t.name, t.shape, t.buffer = name.encode(), np.array(shape, np.int32), 0
        t.type = getattr(self.schema.TensorType, DTYPES[dtype])
        if data is not None:
            t.buffer = self._buffer(data)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: Any, dtype: str = "float32") -> int:
        array: NDArray[Any] = np.ascontiguousarray(values, dtype=dtype)
        key = (array.tobytes(), array.shape, dtype)
        if key not in self._constants:
            self._constants[key] = self.tensor(name, array.shape, dtype, key[0])
        return self._constants[key]

    def integers(self, name: str, values: NDArray[Any], dtype: str) -> int:
        """A constant that is stored for itself, because what its numbers are worth is its own."""
        array = np.ascontiguousarray(values, dtype=dtype)
        return self.tensor(name, array.shape, dtype, array.tobytes())

    def quantise(self, tensor: int, scale: Any, zero_point: int = 0, axis: int = 0) -> int:
        """Say what the integers of ``tensor`` are worth: one ``scale``, or one for each index along ``axis``."""
        worth = self.schema.QuantizationParametersT()
        worth.scale = np.atleast_1d(np.asarray(scale, np.float32))
        worth.zeroPoint = np.full(worth.scale.shape, zero_point, np.int64)
        worth.quantizedDimension = axis
        self.graph.tensors[tensor].quantization = worth
        return tensor

    def operator(self, kind: str, inputs: Sequence[int], output: int, version: int = 1, **options: Any) -> int:
        """Append one operator, for instance ``operator("ADD", [a, b], out)``; options are the schema's fields."""
        op = self.schema.OperatorT()
        op.opcodeIndex = self._code(getattr(self.schema.BuiltinOperator, kind), version)
        op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        table = OPTIONS.get(kind)
        if table is not None:
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, table)
            op.builtinOptions = getattr(self.schema, table + "T")()
            for name, value in options.items():
                setattr(op.builtinOptions, name, value)
        self.graph.operators.append(op)
        return output

    def finish(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """The file's bytes, with one named signature."""
        self.graph.inputs = np.array(list(inputs.values()), np.int32)
        self.graph.outputs = np.array(list(outputs.values()), np.int32)
        signature = self.schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs = [self._map(n, i) for n, i in inputs.items()]
        signature.outputs = [self._map(n, i) for n, i in outputs.items()]
        self.model.signatureDefs = [signature]
        return pack(self.model)

    def _map(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry

    def _buffer(self, data: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def _code(self, builtin: int, version: int) -> int:
        if (builtin, version) not in self._codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
            self.model.operatorCodes.append(code)
            self._codes[builtin, version] = len(self.model.operatorCodes) - 1
        return self._codes[builtin, version]


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "PAD": "PadOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "GATHER": "GatherOptions",
    "SLICE": "SliceOptions",
    "CAST": "CastOptions",
    "GREATER": "GreaterOptions",
    "ARG_MAX": "ArgMaxOptions",
}
"""The options table of each operator that has one."""


def pack(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def unpack(data: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data, 0)


def with_metadata(data: bytes, name: str, text: str) -> bytes:
    """The same model with ``text`` in the metadata buffer ``name``, in place of one that was there."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(data)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    entries = [m for m in model.metadata or [] if m.name != name.encode()]
    entry = schema.MetadataT()
    entry.name, entry.buffer = name.encode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*entries, entry]
    return pack(model)


def metadata(data: bytes, name: str) -> str | None:
    model = unpack(data)
    for entry in model.metadata or []:
        if entry.name == name.encode():
            return bytes(model.buffers[entry.buffer].data).decode()
    return None
