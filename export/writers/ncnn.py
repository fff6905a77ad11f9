"""The intermediate form as ncnn's two files: a text that lists the layers, and their weights in the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.writers.half import as_half
from lightseg.export.writers.ncnn_text import Blobs, Layer, Parameter, with_splits
from lightseg.export.writers.ncnn_weights import HALF_TAG, INT8_TAG, MAGIC

ADD, SUB, MUL = 0, 1, 2
AVERAGE, MAXIMUM, BILINEAR, NEAREST, VALID = 1, 4, 2, 1, 1
INT8 = {"p8": 1}
"""One scale per output channel (of a depthwise convolution: per group), one for the input; the result is float32."""


def write_ncnn(graph: fx.GraphModule, input_shape: Shape, output_name: str, half: bool = False) -> tuple[str, bytes]:
    """The text of ``.param`` and the bytes of ``.bin``. The input is called ``image``.

    ``input_shape`` is 1×3×H×W, or 1×H×W×3 where the graph takes images: ncnn itself knows float maps alone, so such a
    file takes 3×H×W floats from 0 to 255, as ``Mat::from_pixels`` makes them of RGB bytes. With ``half``, the weights
    of convolutions are float16; ncnn stores biases and slopes as float32 in any case. Values of a `FakeQuantise` are
    blobs of int8, which convolutions with int8 weights read.

    Errors: `Unsupported` when a weight does not fit float16.
    """
    writer = _Writer(graph, input_shape, half)
    writer.write(output_name)
    layers = with_splits(writer.layers)
    blobs = sum(len(layer.outputs) for layer in layers)
    text = "\n".join([MAGIC, f"{len(layers)} {blobs}", *map(str, layers), ""])
    return text, b"".join(writer.weights)


class _Writer:
    def __init__(self, graph: fx.GraphModule, input_shape: Shape, half: bool) -> None:
        self.graph, self.half = graph, half
        self.shapes = shapes(graph, input_shape)
        self.takes_images = any(isinstance(m, ops.FromImage) for m in graph.children())
        self.layers: list[Layer] = []
        self.weights: list[bytes] = []
        self.values: dict[fx.Node, str] = {}

    def write(self, output_name: str) -> None:
        last = next(n for n in self.graph.graph.nodes if n.op == "output").args[0]
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = "image"
                _, c, h, w = self._input_shape(node)
                self.layers.append(Layer("Input", "image", [], ["image"], {0: w, 1: h, 2: c}))
            elif node.op == "call_module":
                op = self.graph.get_submodule(str(node.target))
                self.values[node] = output_name if node is last else f"{node.name}.out"
                WRITERS[type(op)](self, node, op, [self.values[a] for a in node.args], self.values[node])

    def _input_shape(self, node: fx.Node) -> Shape:
        n, *rest = self.shapes[node]
        height, width, channels = rest if self.takes_images else (rest[1], rest[2], rest[0])
        return (n, channels, height, width)

    def layer(self, kind: str, name: str, x: Blobs, y: str, **parameters: Parameter) -> str:
        """Append a layer; ``p3=7`` is its parameter number three."""
        self.layers.append(Layer(kind, name, x, [y], {int(k[1:]): v for k, v in parameters.items()}))
        return y

    def store(self, values: Tensor | NDArray[Any]) -> None:
        """Numbers without a tag: biases, slopes, scales."""
        self.weights.append(np.ascontiguousarray(values, "<f4").tobytes())

    def store_tagged(self, name: str, values: Tensor) -> None:
        """Weights of a convolution, which say themselves how they are stored, on a multiple of four bytes."""
        if values.dtype == torch.int8:
            tag, stored = INT8_TAG, values.contiguous().numpy()
        elif self.half:
            tag, stored = HALF_TAG, as_half(name, values)
        else:
            tag, stored = 0, np.ascontiguousarray(values, "<f4")
        data = stored.tobytes()
        self.weights += [tag.to_bytes(4, "little"), data, bytes(-len(data) % 4)]

    def size_in(self, node: fx.Node) -> Shape:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        return self.shapes[source]


def _conv(w: _Writer, node: fx.Node, op: ops.Conv, x: Blobs, y: str) -> None:
    kind = "Convolution" if op.groups == 1 else "ConvolutionDepthWise"
    _window(w, kind, node.name, x, y, op.weight, op.bias, op.stride, op.padding, op.dilation, op.groups)


def _quantised_conv(w: _Writer, node: fx.Node, op: QuantisedConv, x: Blobs, y: str) -> None:
    """int8 weights and input, float32 result; scales are what a number is multiplied by to become whole.

    Only depthwise convolutions keep their groups: where a group of several channels returns a multiple of eight of
    them, ncnn 1.0.20261020 answers with memory nobody wrote; zeros between the groups are exact.
    """
    grid = op_of(w.graph, node.all_input_nodes[0])
    assert isinstance(grid, FakeQuantise) and grid.symmetric
    weight, groups = op.integer_weight(), op.groups
    if groups > 1 and not groups == op.in_channels == len(weight):
        weight, groups = _without_groups(weight, groups), 1
    kind = "Convolution" if groups == 1 else "ConvolutionDepthWise"
    _window(w, kind, node.name, x, y, weight, op.bias, op.stride, op.padding, op.dilation, groups)
    w.store(1 / op.weight_scale)
    w.store(1 / grid.scale)


def _without_groups(weight: Tensor, groups: int) -> Tensor:
    """The same convolution as a dense one: zeros for the inputs of the other groups."""
    out_channels, per_group, kh, kw = weight.shape
    dense = weight.new_zeros(groups, out_channels // groups, groups, per_group, kh, kw)
    for i, group in enumerate(weight.chunk(groups)):
        dense[i, :, i] = group
    return dense.view(out_channels, groups * per_group, kh, kw)


def _fake_quantise(w: _Writer, node: fx.Node, op: FakeQuantise, x: Blobs, y: str) -> None:
    w.layer("Quantize", node.name, x, y, p0=1)
    w.store(1 / op.scale)


def _deconv(w: _Writer, node: fx.Node, op: ops.Deconv, x: Blobs, y: str) -> None:
    weight = op.weight.transpose(0, 1)
    kh, kw = weight.shape[2:]
    _window(w, "Deconvolution", node.name, x, y, weight, op.bias, (kh, kw), (0, 0), (1, 1), 1)


def _window(
    w: _Writer,
    kind: str,
    name: str,
    x: Blobs,
    y: str,
    weight: Tensor,
    bias: Tensor | None,
    stride: ops.Pair,
    padding: ops.Pair,
    dilation: ops.Pair,
    groups: int,
) -> None:
    """Widths come first in ncnn; heights have numbers of their own from eleven on."""
    out_channels, _, kh, kw = weight.shape
    across = {"p1": kw, "p2": dilation[1], "p3": stride[1], "p4": padding[1]}
    down = {"p11": kh, "p12": dilation[0], "p13": stride[0], "p14": padding[0]}
    other = ({"p7": groups} if groups > 1 else {}) | (INT8 if weight.dtype == torch.int8 else {})
    w.layer(kind, name, x, y, p0=out_channels, **across, p5=int(bias is not None), p6=weight.numel(), **other, **down)
    w.store_tagged(name, weight)
    if bias is not None:
        w.store(bias)


def _affine(w: _Writer, node: fx.Node, op: ops.Affine, x: Blobs, y: str) -> None:
    channels = w.shapes[node][1]
    _scale(w, node.name, x, y, *(np.broadcast_to(np.asarray(v), (channels,)) for v in (op.scale, op.shift)))


def _scale(w: _Writer, name: str, x: Blobs, y: str, scale: NDArray[Any], shift: NDArray[Any]) -> None:
    shifts = bool(np.any(shift))
    w.layer("Scale", name, x, y, p0=len(scale), p1=int(shifts))
    w.store(scale)
    if shifts:
        w.store(shift)


def _prelu(w: _Writer, node: fx.Node, op: ops.PReLU, x: Blobs, y: str) -> None:
    w.layer("PReLU", node.name, x, y, p0=len(op.slope))
    w.store(op.slope)


def _avg_pool(w: _Writer, node: fx.Node, op: ops.AvgPool, x: Blobs, y: str) -> None:
    w.layer("Pooling", node.name, x, y, p0=AVERAGE, p1=op.factor, p2=op.factor, p5=VALID)


def _mean(w: _Writer, node: fx.Node, op: ops.GlobalMean, x: Blobs, y: str) -> None:
    """A window as large as the map: ncnn's own global pooling returns a vector, which later layers read otherwise."""
    height, width = w.size_in(node)[2:]
    w.layer("Pooling", node.name, x, y, p0=AVERAGE, p1=width, p2=width, p5=VALID, p11=height, p12=height)


def _upsample(w: _Writer, node: fx.Node, op: ops.Upsample, x: Blobs, y: str) -> None:
    """ncnn's bilinear kernel reads a row before the first where there is one alone; that row is repeated instead."""
    factor, single = float(op.factor), [extent == 1 for extent in w.size_in(node)[2:]]
    if any(single):
        repeat = {f"p{i + 1}": factor if alone else 1.0 for i, alone in enumerate(single)}
        y_repeated = y if all(single) else f"{y}.repeated"
        w.layer("Interp", f"{node.name}_repeat", x, y_repeated, p0=NEAREST, **repeat)
        x = [y_repeated]
    if not all(single):
        scales = {f"p{i + 1}": 1.0 if alone else factor for i, alone in enumerate(single)}
        w.layer("Interp", node.name, x, y, p0=BILINEAR, **scales, p6=int(op.align_corners))


def _permute(w: _Writer, node: fx.Node, op: ops.Permute, x: Blobs, y: str) -> None:
    """A shuffle where it is one; any other order is a 1×1 convolution with ones in the right places."""
    channels = len(op.index)
    order = torch.arange(channels)
    for groups in range(2, channels):
        if channels % groups == 0 and torch.equal(order.view(groups, -1).T.flatten(), op.index.cpu()):
            w.layer("ShuffleChannel", node.name, x, y, p0=groups)
            return
    matrix = torch.eye(channels, dtype=torch.float64)[op.index][:, :, None, None]
    _window(w, "Convolution", node.name, x, y, matrix, None, (1, 1), (0, 0), (1, 1), 1)


def _softmax(w: _Writer, node: fx.Node, op: ops.Softmax, x: Blobs, y: str) -> None:
    """The second parameter asks for the axis as it is meant: ncnn keeps an old mistake where it is absent."""
    w.layer("Softmax", node.name, x, y, p0=0, p1=1)


def _max_channel(w: _Writer, node: fx.Node, op: ops.MaxChannel, x: Blobs, y: str) -> None:
    _largest(w, node.name, x, y)


def _largest(w: _Writer, name: str, x: Blobs, y: str) -> str:
    return w.layer("Reduction", name, x, y, p0=MAXIMUM, p1=0, p3=[0], p4=1, p5=1)


def _first_channels(w: _Writer, node: fx.Node, op: ops.FirstChannels, x: Blobs, y: str) -> None:
    w.layer("Crop", node.name, x, y, p9=[0], p10=[op.count], p11=[0])


def _arg_max(w: _Writer, node: fx.Node, op: ops.ArgMax, x: Blobs, y: str) -> None:
    """ncnn has no argmax over channels. What equals the largest is marked, and the first mark weighs most."""
    name, count = node.name, w.size_in(node)[1]
    largest = _largest(w, f"{name}_largest", x, f"{y}.largest")
    below = w.layer("BinaryOp", f"{name}_below", [*x, largest], f"{y}.below", p0=SUB)
    marks = w.layer("Threshold", f"{name}_marks", [below], f"{y}.marks", p0=-1e-37)
    weights = np.arange(count, 0, -1)
    _scale(w, f"{name}_weights", [marks], f"{y}.weighted", weights, 0 * weights)
    first = _largest(w, f"{name}_first", [f"{y}.weighted"], f"{y}.first")
    _scale(w, name, [first], y, np.array([-1]), np.array([count]))


def _plain(kind: str, **parameters: Parameter) -> Callable[[_Writer, fx.Node, Any, Blobs, str], None]:
    """An operation that is one layer without weights."""

    def write(w: _Writer, node: fx.Node, op: Any, x: Blobs, y: str) -> None:
        w.layer(kind, node.name, x, y, **parameters)

    return write


def _depth_to_space(w: _Writer, node: fx.Node, op: ops.DepthToSpace, x: Blobs, y: str) -> None:
    w.layer("PixelShuffle", node.name, x, y, p0=op.block, p1=1)


WRITERS: dict[type, Callable[[_Writer, fx.Node, Any, Blobs, str], None]] = {
    ops.Conv: _conv,
    QuantisedConv: _quantised_conv,
    FakeQuantise: _fake_quantise,
    ops.Deconv: _deconv,
    ops.Affine: _affine,
    ops.PReLU: _prelu,
    ops.Concat: _plain("Concat", p0=0),
    ops.Add: _plain("BinaryOp", p0=ADD),
    ops.Mul: _plain("BinaryOp", p0=MUL),
    ops.AvgPool: _avg_pool,
    ops.GlobalMean: _mean,
    ops.Upsample: _upsample,
    ops.Permute: _permute,
    ops.Softmax: _softmax,
    ops.MaxChannel: _max_channel,
    ops.Sigmoid: _plain("Sigmoid"),
    ops.Abs: _plain("AbsVal"),
    ops.Positives: _plain("ReLU"),
    ops.Negatives: _plain("Clip", p1=0.0),
    ops.DepthToSpace: _depth_to_space,
    ops.FirstChannels: _first_channels,
    ops.ArgMax: _arg_max,
    ops.Positive: _plain("Threshold", p0=0.0),
    ops.FromImage: _plain("Noop"),
}
