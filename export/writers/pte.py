"""A .pte file: an ExecuTorch program that calls the XNNPACK delegate once, with notes of ours behind its end.

ExecuTorch reads as many bytes as the program's header says; the notes stand behind them, so the file runs anywhere and
carries its own proof. Reading them takes no package.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightseg.export.writers.xnnpack_graph import XnnGraph


MAGIC, IDENTIFIER = b"LIGHTSEG", (b"ET12",)
EXTENDED = b"eh00"
ALIGNMENT, LOW = 16, 2**32


def write_pte(xnn: XnnGraph) -> bytes:
    """The program of ``xnn``; its externals are the inputs and then the outputs, and so are the program's tensors."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import serialize_xnnpack_binary
    from executorch.exir import schema as s
    from executorch.exir._serialize._named_data_store import NamedDataStore
    from executorch.exir._serialize._program import PTEFile, serialize_pte_binary

    store = NamedDataStore()
    for key, data in xnn.constants.items():
        store.add_named_data(key, data, alignment=ALIGNMENT)
    tensors, size = _tensors(xnn)
    ids, inputs = list(range(len(tensors))), len(xnn.graph.input_ids)
    call = s.Instruction(s.DelegateCall(0, ids))
    where = s.BackendDelegateDataReference(s.DataLocation.INLINE, 0)
    plan = s.ExecutionPlan(
        name="forward",
        container_meta_type=s.ContainerMetadata("", ""),
        values=[s.EValue(tensor) for tensor in tensors],
        inputs=ids[:inputs],
        outputs=ids[inputs:],
        chains=[s.Chain([], [], [call], None)],
        operators=[],
        delegates=[s.BackendDelegate("XnnpackBackend", where, [])],
        non_const_buffer_sizes=[0, size],
    )
    program = s.Program(
        version=0,
        execution_plan=[plan],
        constant_buffer=[s.Buffer(b"")],
        backend_delegate_data=[s.BackendDelegateInlineData(serialize_xnnpack_binary(xnn.graph, bytearray()))],
        segments=[],
        constant_segment=s.SubsegmentOffsets(0, []),
    )
    file = PTEFile(program=program, named_data=store.get_named_data_store_output())
    return bytes(serialize_pte_binary(file, extract_delegate_segments=True))


def with_notes(data: bytes, **notes: Any) -> bytes:
    """``data`` with ``notes`` added to those it has."""
    program, known = split(data)
    text = zlib.compress(json.dumps(known | notes, ensure_ascii=False).encode(), 9)
    end = len(text).to_bytes(8, "little") + zlib.crc32(program + text).to_bytes(4, "little") + MAGIC
    return program + text + end


def split(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """The program and its notes, none where it was not written here. Errors: `ValueError` where it is damaged."""
    if data[4:8] not in IDENTIFIER:
        raise ValueError("no ExecuTorch program")
    if data[-8:] != MAGIC:
        return data, {}
    length, check = int.from_bytes(data[-20:-12], "little"), int.from_bytes(data[-12:-8], "little")
    start = len(data) - 20 - length
    if start < 0 or zlib.crc32(data[:-20]) != check:
        raise ValueError("its checksum differs")
    notes: dict[str, Any] = json.loads(zlib.decompress(data[start:-20]))
    return data[:start], notes


def is_whole(program: bytes) -> bool:
    """Whether a program is as long as its header says; the runtime itself may read beyond a cut file's end."""
    if program[8:12] != EXTENDED or len(program) < 40:
        return False
    size, base, segments = (int.from_bytes(program[i : i + 8], "little") for i in (16, 24, 32))
    return len(program) >= max(size, base + segments)


def _tensors(xnn: XnnGraph) -> tuple[list[Any], int]:
    """The externals one after the other in one buffer, and its size."""
    from executorch.exir import schema as s
    from executorch.exir.scalar_type import ScalarType

    from lightseg.export.writers.xnnpack_graph import tensor_of

    kinds = {1: (ScalarType.FLOAT, 4), 2: (ScalarType.HALF, 2), 3: (ScalarType.CHAR, 1)}
    values = [tensor for tensor in map(tensor_of, xnn.graph.xvalues) if tensor.flags]
    found, offset = [], 0
    for value in sorted(values, key=lambda value: value.external_id):
        kind, bytes_each = kinds[int(value.datatype)]
        place = s.AllocationDetails(1, offset % LOW, offset // LOW)
        order, dynamic = list(range(len(value.dims))), s.TensorShapeDynamism.STATIC
        found.append(s.Tensor(kind, 0, list(value.dims), order, False, 0, 0, place, dynamic))
        offset += -(-bytes_each * prod(value.dims) // ALIGNMENT) * ALIGNMENT
    return found, offset


def read_pte(program: bytes) -> XnnGraph:
    """The delegate's graph in a program that `write_pte` wrote, in the schema's own classes; it has no names.

    The schema's tool prints floats with six digits, too few for the scale of a grid: it is told they are integers.
    """
    import tempfile
    from pathlib import Path

    from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import PerTensorQuant, XNNGraph
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader, _get_schema_bytes
    from executorch.exir._serialize._dataclass import _json_to_dataclass
    from executorch.exir._serialize._flatbuffer import _flatc_decompile
    from executorch.exir._serialize._program import deserialize_pte_binary

    from lightseg.export.writers.xnnpack_graph import XnnGraph

    file = deserialize_pte_binary(program)
    payload = bytes(file.program.backend_delegate_data[0].data)
    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        schema, binary, text = (Path(folder) / f"schema.{ending}" for ending in ("fbs", "bin", "json"))
        schema.write_bytes(_get_schema_bytes().replace(b"scale:float;", b"scale:uint;"))
        binary.write_bytes(payload[header.flatbuffer_offset :][: header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        words = re.sub(r": (-?inf)\b", r': "\1"', text.read_text(encoding="utf-8"))
        graph = _json_to_dataclass(json.loads(words), XNNGraph)
    for grid in filter(None, (getattr(value.xvalue_union, "quant_params", None) for value in graph.xvalues)):
        if isinstance(grid, PerTensorQuant):
            (grid.scale,) = struct.unpack("<f", struct.pack("<I", int(grid.scale)))
    stored = file.named_data
    entries = stored.pte_data if stored else {}
    return XnnGraph(graph, {key: bytes(stored.buffers[entry.buffer_index]) for key, entry in entries.items()})
