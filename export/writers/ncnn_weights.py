"""What an ncnn pair holds, read back: the layers of the text, and the weights of each in the other file.

ncnn itself prints a line and goes on, or reads past the end, where the two files do not belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = "7767517"
HALF_TAG, INT8_TAG = 0x01306B47, 0x000D4B38
"""In front of weights that are stored as float16 and int8; zero stands in front of float32 ones."""
TAGGED = {0: "float32", HALF_TAG: "float16", INT8_TAG: "int8"}
BYTES = {"float32": 4, "float16": 2, "int8": 1}
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")


@dataclass(frozen=True)
class Weight:
    """One array of the ``.bin``: whose it is, where its numbers start, how many, and of which type."""

    layer: str
    start: int
    count: int
    dtype: str


@dataclass(frozen=True)
class Line:
    """One layer of the ``.param``."""

    kind: str
    name: str
    parameters: dict[int, str]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def number(self, key: int) -> int:
        return int(self.parameters.get(key, "0"))


def layers_in(text: str) -> list[Line]:
    """Errors: `ValueError` where the text is cut or no ncnn text."""
    rows = text.split("\n")
    if rows[0] != MAGIC or not text.endswith("\n"):
        raise ValueError("it does not start and end as an ncnn text does")
    count, blobs = map(int, rows[1].split())
    layers = [_line(row) for row in rows[2:-1]]
    if len(layers) != count:
        raise ValueError(f"it announces {count} layers and lists {len(layers)}")
    if sum(len(line.outputs) for line in layers) != blobs:
        raise ValueError(f"it announces {blobs} blobs and its layers make others")
    return layers


def _line(row: str) -> Line:
    kind, name, inputs, outputs, *rest = row.split(" ")
    reads, blobs = int(inputs), int(inputs) + int(outputs)
    if len(rest) < blobs or any("=" in blob for blob in rest[:blobs]):
        raise ValueError(f"layer {name} lacks blobs")
    pairs = (item.split("=") for item in rest[blobs:])
    parameters = {int(key): value for key, value in pairs}
    return Line(kind, name, parameters, tuple(rest[:reads]), tuple(rest[reads:blobs]))


def weights_in(layers: list[Line], data: bytes) -> Iterator[Weight]:
    """Every array in turn. Errors: `ValueError` where ``data`` ends early or late, or a tag is unknown."""
    at = 0
    for line in layers:
        for count, tagged in _arrays(line):
            dtype = "float32"
            if tagged:
                dtype, at = _tag(line, data, at), at + 4
            size = count * BYTES[dtype]
            if at + size > len(data):
                raise ValueError(f"the weights end inside layer {line.name}")
            yield Weight(line.name, at, count, dtype)
            at += size + -size % 4
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes follow the last weight")


def _tag(line: Line, data: bytes, at: int) -> str:
    tag = int.from_bytes(data[at : at + 4], "little")
    if len(data) < at + 4 or tag not in TAGGED:
        raise ValueError(f"the weights of layer {line.name} start with no known tag")
    return TAGGED[tag]


def _arrays(line: Line) -> list[tuple[int, bool]]:
    """Numbers of each array a layer reads, and whether a tag stands in front of them."""
    if line.kind in (*CONVOLUTIONS, "Deconvolution"):
        return [(line.number(6), True)] + [(line.number(0), False)] * line.number(5) + _scales(line)
    if line.kind == "Quantize":
        return [(line.number(0), False)]
    if line.kind == "PReLU":
        return [(line.number(0), False)]
    if line.kind == "BatchNorm":
        return [(line.number(0), False)] * 4
    if line.kind == "Scale":
        return [(line.number(0), False)] * (1 + line.number(1))
    return []


def _scales(line: Line) -> list[tuple[int, bool]]:
    """Of an int8 convolution: one per output channel, or group, and the input's."""
    if not line.number(8):
        return []
    return [(line.number(0 if line.kind == "Convolution" else 7), False), (1, False)]
