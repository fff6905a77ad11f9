"""Convolutions as TFLite operators, in float and in eight bits, and the grids between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv

if TYPE_CHECKING:
    from lightseg.export.writers.tflite import Writer

SAME, VALID = 0, 1
Inputs = list[int]


def conv(w: Writer, node: fx.Node, op: ops.Conv, inputs: Inputs) -> int:
    weight = _array(op.weight)
    bias = np.zeros(len(weight)) if op.bias is None else _array(op.bias)
    constants = [w.weights(node.name + "_weight", _laid_out(op, weight)), w.weights(node.name + "_bias", bias)]
    x, padding = _padded(w, node, op, inputs[0])
    return _operator(w, op, [x, *constants], w.out(node), padding)


def quantised_conv(w: Writer, node: fx.Node, op: QuantisedConv, inputs: Inputs) -> int:
    """int8 in, int8 out on the grid of the `FakeQuantise` that reads it; int8 weights, int32 biases.

    Errors: `Unsupported` where something else reads it too: no kernel returns wider numbers.
    """
    reader, *others = node.users
    grid = w.op(reader)
    if others or not isinstance(grid, FakeQuantise):
        raise Unsupported(f"{node.name} returns int8 in TFLite and is read in float; quantise what it returns")
    kernel = w.flat.integers(node.name + "_weight", _laid_out(op, _array(op.integer_weight())), "int8")
    w.flat.quantise(kernel, op.weight_scale, axis=3 if op.is_depthwise else 0)
    bias = w.flat.quantise(w.flat.integers(node.name + "_bias", _array(op.integer_bias()), "int32"), op.bias_scale)
    x, padding = _padded(w, node, op, inputs[0])
    return _operator(w, op, [x, kernel, bias], _on_grid(w, reader, grid), padding)


def fake_quantise(w: Writer, node: fx.Node, op: FakeQuantise, inputs: Inputs) -> int:
    """The int8 tensor; a convolution that computes in eight bits has made it already."""
    if isinstance(w.op(node.all_input_nodes[0]), QuantisedConv):
        return w.values[node.all_input_nodes[0]]
    return w.flat.operator("QUANTIZE", inputs, _on_grid(w, node, op))


def _on_grid(w: Writer, node: fx.Node, grid: FakeQuantise) -> int:
    """Errors: `Unsupported` for ends that int8 kernels do not clamp to."""
    if (grid.low, grid.high) != (-128, 127):
        raise Unsupported(f"{node.name} is quantised to {grid.low}…{grid.high}, where TFLite's int8 has -128…127")
    return w.flat.quantise(w.out(node, dtype="int8"), grid.scale, grid.zero_point)


def deconv(w: Writer, node: fx.Node, op: ops.Deconv, inputs: Inputs) -> int:
    """The 1-D bias is given even where it is zero: without it the runtime's delegate splits the graph."""
    weight = _array(op.weight)
    bias = np.zeros(weight.shape[1]) if op.bias is None else _array(op.bias)
    n, c, height, width = w.shapes[node]
    args = [
        w.flat.constant("shape", (n, height, width, c), "int32"),
        w.weights(node.name + "_weight", weight.transpose(1, 2, 3, 0)),
        inputs[0],
        w.weights(node.name + "_bias", bias),
    ]
    kh, kw = weight.shape[2:]
    return w.flat.operator("TRANSPOSE_CONV", args, w.out(node), 3, padding=VALID, strideH=kh, strideW=kw)


def _operator(w: Writer, op: ops.Conv, inputs: Inputs, output: int, padding: int) -> int:
    options: dict[str, Any] = {
        "padding": padding, "strideH": op.stride[0], "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0], "dilationWFactor": op.dilation[1],
    }  # fmt: skip
    int8 = isinstance(op, QuantisedConv)
    if op.is_depthwise:
        options["depthMultiplier"] = op.weight.shape[0] // op.groups
        version = 3 if int8 else 1 if op.dilation == (1, 1) else 2
        return w.flat.operator("DEPTHWISE_CONV_2D", inputs, output, version, **options)
    version = 6 if op.groups > 1 else 3 if int8 else 1
    return w.flat.operator("CONV_2D", inputs, output, version, **options)


def _laid_out(op: ops.Conv, weight: NDArray[Any]) -> NDArray[Any]:
    """O×kh×kw×I; of a depthwise convolution 1×kh×kw×O."""
    if not op.is_depthwise:
        return weight.transpose(0, 2, 3, 1)
    out_channels, _, kh, kw = weight.shape
    return weight.transpose(1, 2, 3, 0).reshape(1, kh, kw, out_channels)


def _padded(w: Writer, node: fx.Node, op: ops.Conv, x: int) -> tuple[int, int]:
    """The input and padding mode; PyTorch's padding is TFLite's SAME only where both sides agree."""
    size, out = w.shape_in(node)[2:], w.shapes[node][2:]
    ours, same = [], []
    for i in range(2):
        kernel, stride, dilation, before = op.weight.shape[2 + i], op.stride[i], op.dilation[i], op.padding[i]
        reach = (out[i] - 1) * stride + (kernel - 1) * dilation + 1
        ours.append((before, max(reach - size[i] - before, 0)))
        total = max(reach - size[i], 0) if out[i] == -(-size[i] // stride) else -1
        same.append((total // 2, total - total // 2))
    if ours == same:
        return x, SAME
    if not any(map(any, ours)):
        return x, VALID
    n, c, height, width = w.shape_in(node)
    shape = (n, height + sum(ours[0]), width + sum(ours[1]), c)
    pads = w.flat.constant("paddings", [(0, 0), *ours, (0, 0)], "int32")
    return w.flat.operator("PAD", [x, pads], _like(w, node, x, shape)), VALID


def _like(w: Writer, node: fx.Node, x: int, shape: tuple[int, ...]) -> int:
    """A tensor for the values of ``x`` with zeros around: of its type and on its grid."""
    grid = w.flat.graph.tensors[x].quantization
    padded = w.out(node, "_pad", "float32" if grid is None else "int8", shape)
    w.flat.graph.tensors[padded].quantization = grid
    return padded


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
