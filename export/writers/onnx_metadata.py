"""What an ONNX file says, read from its bytes: a machine that only runs the file has no package onnx."""

from __future__ import annotations

from collections.abc import Iterator

PROPERTIES = 14
"""The field of a model that holds its properties, each with a key (1) and a value (2)."""
GRAPH, NODE, KIND = 7, 1, 4
"""A model's graph, a graph's nodes, a node's kind."""
CONSTANT, ELEMENT = 5, 2
"""A graph's constants, the type of a constant's elements."""
TYPES = {1: "float32", 10: "float16"}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def metadata(data: bytes, name: str) -> str | None:
    """The property ``name``; None where there is none. Errors: `ValueError` where the bytes are no whole model."""
    for field, content in _fields(data):
        if field == PROPERTIES:
            entry = dict(_fields(content))
            if entry.get(1) == name.encode():
                return entry.get(2, b"").decode()
    return None


def operations(data: bytes) -> Iterator[str]:
    """The kind of every node of the model's graph. Errors: as `metadata`."""
    for field, graph in _fields(data):
        if field == GRAPH:
            nodes = (node for inner, node in _fields(graph) if inner == NODE)
            yield from (kind.decode() for node in nodes for part, kind in _fields(node) if part == KIND)


def weights(data: bytes) -> Iterator[str]:
    """`TYPES` of the graph's floating-point constants as they are stored. Errors: as `metadata`."""
    for field, graph in _fields(data):
        if field == GRAPH:
            constants = (dict(_fields(constant)) for inner, constant in _fields(graph) if inner == CONSTANT)
            elements = (_varint(constant.get(ELEMENT, b""), 0)[0] for constant in constants)
            yield from (TYPES[element] for element in elements if element in TYPES)


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of every field that is a whole number or has a length; the others are passed over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            start = at
            _, at = _varint(data, at)
            yield tag >> 3, data[start:at]
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        elif kind == BYTES and tag >> 3:
            size, start = _varint(data, at)
            at = start + size
            yield tag >> 3, data[start:at]
        else:
            raise ValueError(f"no field of a model starts at byte {at}")
        if at > len(data):
            raise ValueError("the last field is cut off")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number is cut off")
