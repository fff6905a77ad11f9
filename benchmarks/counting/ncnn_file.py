"""Counts from an ncnn folder, by the conventions of `lightseg.benchmarks.counting.cost`. Shapes are C×H×W."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

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
from lightseg.benchmarks.counting.operators import kind_of
from lightseg.errors import BadInput, Unsupported
from lightseg.export.targets.folder import member
from lightseg.export.targets.ncnn import BIN, PARAM
from lightseg.export.writers.ncnn_weights import Line, Weight, layers_in, weights_in

COUNTER = "lightseg.benchmarks.counting.ncnn_file"
Shape = tuple[int, int, int]

SAME = {
    "Split", "Noop", "PReLU", "ReLU", "Clip", "Sigmoid", "AbsVal", "Scale", "Softmax", "Threshold", "UnaryOp",
    "ShuffleChannel", "Quantize", "BatchNorm",
}  # fmt: skip
"""Layers whose output has the shape of their input."""
ROLES: dict[str, tuple[Role, ...]] = {
    "Convolution": ("weight", "bias", "constant", "constant"),
    "ConvolutionDepthWise": ("weight", "bias", "constant", "constant"),
    "Deconvolution": ("weight", "bias"),
    "PReLU": ("slope",),
    "Scale": ("affine", "affine"),
    "Quantize": ("constant",),
    "BatchNorm": ("affine", "buffer", "buffer", "affine"),
}
"""Behind weights and bias an int8 convolution has its scales."""
CROPPED, REDUCED, FLOAT = -23310, -23303, 4


@dataclass(frozen=True)
class Layer:
    """One line of the text with the names of its blobs and its arrays."""

    line: Line
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[Weight, ...]

    def pair(self, across: int, default: int = 0) -> tuple[int, int]:
        """A parameter for height and width: the width's number, and that of the height ten later, or the same."""
        parameters = self.line.parameters
        wide = int(parameters.get(across, default))
        return int(parameters.get(across + 10, wide)), wide


def count_ncnn(folder: Path) -> Cost:
    """The cost of the pair in ``folder``.

    Errors: `BadInput` for files that do not belong together; `Unsupported` for a layer whose shape has no rule.
    """
    text, data = member(folder, PARAM).read_text(encoding="utf-8"), member(folder, BIN).read_bytes()
    try:
        lines = layers_in(text)
        weights = list(weights_in(lines, data))
    except ValueError as error:
        raise BadInput(f"{folder} is no readable ncnn pair ({error}); export it again") from error
    layers = [_layer(line, row, weights) for line, row in zip(lines, text.split("\n")[2:])]
    shapes: dict[str, Shape] = {}
    for layer in layers:
        shapes |= dict.fromkeys(layer.outputs, output_shape(layer, [shapes[name] for name in layer.inputs]))
    bytes_of = _element_bytes(layers)
    tensors = {name: Tensor(shape, bytes_of[name] * prod(shape)) for name, shape in shapes.items()}
    given = [name for layer in layers if layer.line.kind == "Input" for name in layer.outputs]
    read = {name for layer in layers for name in layer.inputs}
    asked = [name for name in shapes if name not in read]
    ops = [_op(layer, shapes, data) for layer in layers if layer.line.kind != "Input"]
    return total(folder.name, ops, tensors, given, asked)


def _layer(line: Line, row: str, weights: list[Weight]) -> Layer:
    _, _, inputs, outputs, *rest = row.split(" ")
    middle, end = int(inputs), int(inputs) + int(outputs)
    return Layer(line, tuple(rest[:middle]), tuple(rest[middle:end]), tuple(w for w in weights if w.layer == line.name))


def _element_bytes(layers: list[Layer]) -> dict[str, int]:
    """By blob: one byte where a Quantize layer made it, four anywhere else."""
    size: dict[str, int] = {}
    for layer in layers:
        split = size[layer.inputs[0]] if layer.line.kind == "Split" else FLOAT
        size |= dict.fromkeys(layer.outputs, 1 if layer.line.kind == "Quantize" else split)
    return size


def output_shape(layer: Layer, given: list[Shape]) -> Shape:
    """C×H×W of the output. Errors: `Unsupported` for a layer without a rule."""
    kind, line = layer.line.kind, layer.line
    if kind == "Input":
        return line.number(2), line.number(1), line.number(0)
    if kind in SAME:
        return given[0]
    if kind in ("Convolution", "ConvolutionDepthWise", "Deconvolution"):
        return line.number(0), *_window(layer, given[0], kind == "Deconvolution")
    if kind == "Pooling":
        return given[0][0], *_window(layer, given[0], pooling=True)
    if kind == "Interp":
        high, wide = (float(line.parameters[key]) for key in (1, 2))
        return given[0][0], int(given[0][1] * high), int(given[0][2] * wide)
    if kind == "Concat":
        return sum(shape[0] for shape in given), *given[0][1:]
    if kind == "BinaryOp":
        channels, height, width = (max(extents) for extents in zip(*given))
        return channels, height, width
    if kind == "Reduction":
        gone = [int(axis) for axis in line.parameters[REDUCED].split(",")[1:]]
        channels, height, width = (1 if axis in gone else extent for axis, extent in enumerate(given[0]))
        return channels, height, width
    if kind == "Crop":
        return int(line.parameters[CROPPED].split(",")[1]), *given[0][1:]
    if kind == "PixelShuffle":
        block = line.number(0)
        return given[0][0] // block**2, given[0][1] * block, given[0][2] * block
    raise Unsupported(f"{kind} {line.name}: no rule for its shape; add one to {COUNTER}")


def _window(layer: Layer, given: Shape, transposed: bool = False, pooling: bool = False) -> tuple[int, int]:
    kernels = layer.pair(1)
    dilations = (1, 1) if pooling else layer.pair(2, 1)
    strides, pads = layer.pair(2 if pooling else 3, 1), layer.pair(3 if pooling else 4)
    if transposed:
        height, width = (
            (size - 1) * s + d * (k - 1) + 1 - 2 * p
            for size, k, d, s, p in zip(given[1:], kernels, dilations, strides, pads)
        )
    else:
        height, width = (
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, d, s, p in zip(given[1:], kernels, dilations, strides, pads)
        )
    return height, width


def _op(layer: Layer, shapes: dict[str, Shape], data: bytes) -> Op:
    line = layer.line
    given, made = shapes[layer.inputs[0]], shapes[layer.outputs[0]]
    kind: Kind = "view" if line.kind == "Split" else kind_of(line.kind, COUNTER)
    groups = line.number(7) if line.kind == "ConvolutionDepthWise" else 1
    if kind == "conv" and 1 < groups == given[0]:
        kind = "depthwise"
    macs = 0
    if kind in ("conv", "depthwise"):
        macs = conv_macs(made, layer.pair(1), given[0] // groups)
    elif kind == "transposed conv":
        macs = transposed_conv_macs(given, layer.pair(1), made[0])
    taps = prod(layer.pair(1)) if kind in CONVOLUTIONS else 1
    return Op(line.name, line.kind, kind, layer.inputs, layer.outputs, tuple(_constants(layer, data)), macs, taps)


def _constants(layer: Layer, data: bytes) -> Iterator[Constant]:
    for slot, (weight, role) in enumerate(zip(layer.weights, ROLES.get(layer.line.kind, ()))):
        size = np.dtype(weight.dtype).itemsize * weight.count
        zero = role == "bias" and not any(data[weight.start : weight.start + size])
        yield Constant(f"{layer.line.name}:{slot}", "zero bias" if zero else role, weight.count, size)
