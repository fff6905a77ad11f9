"""The intermediate form as a graph of ExecuTorch's XNNPACK delegate, channels last between its two ends.

ExecuTorch's own road (export, edge program, partitioner, passes) takes 25 to 50 seconds of CPU a file and leaves some
operations outside; this one takes less than a second and delegates everything. A slow test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import Shape
from lightseg.export.writers.xnnpack_convolutions import conv, deconv, fake_quantise, quantised_conv
from lightseg.export.writers.xnnpack_graph import NOTHING, GraphWriter, Ids, Write, XnnGraph, nhwc

ALIGN_CORNERS, KEEP_DIMS = 0x08, 0x40
"""Flags of operations."""
MOST_JOINED = 5
"""Inputs one concatenation takes."""


def xnn_graph(
    graph: fx.GraphModule, input_shape: Shape, input_name: str, output_name: str, half: bool = False
) -> XnnGraph:
    """The delegate's graph of ``graph``. Input and output are N×C×H×W float32, as in the PyTorch network.

    ``input_shape`` is N×3×H×W, or N×H×W×3 where the graph takes images: such a file takes N×3×H×W floats from 0 to 255.
    With ``half``, all weights and all values in between are float16. Values of a `FakeQuantise` are int8 for the
    convolutions that read them, and turned back for all other operations.

    Errors: `Unsupported` when a weight does not fit float16, and for grids that int8 kernels do not have.
    """
    return GraphWriter(graph, input_shape, half).write(WRITERS, input_name, output_name)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


def _affine(w: GraphWriter, node: fx.Node, op: ops.Affine, x: Ids) -> int:
    scale, shift = (_per_channel(_array(v)) for v in (op.scale, op.shift))
    scaled = x[0]
    if (scale != 1).any() or not shift.any():
        target = w.out(node, "_scaled") if shift.any() else w.out(node)
        scaled = _two(w, "Multiply", scaled, w.constant(scale), target)
    return _two(w, "Add", scaled, w.constant(shift), w.out(node)) if shift.any() else scaled


def _per_channel(values: NDArray[Any]) -> NDArray[Any]:
    """A scalar where all channels agree."""
    return values[:1] if (values == values[0]).all() else values.reshape(1, 1, 1, -1)


def _two(w: GraphWriter, kind: str, a: int, b: int, y: int) -> int:
    return w.node(kind, y, input1_id=a, input2_id=b)


def _binary(kind: str) -> Callable[[GraphWriter, fx.Node, nn.Module, Ids], int]:
    def write(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return _two(w, kind, x[0], x[1], w.out(node))

    return write


def _unary(kind: str, flags: int = 0) -> Callable[[GraphWriter, fx.Node, nn.Module, Ids], int]:
    def write(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return w.node(kind, w.out(node), input_id=x[0], flags=flags)

    return write


def _between(low: float, high: float) -> Callable[[GraphWriter, fx.Node, nn.Module, Ids], int]:
    def write(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return w.node("Clamp", w.out(node), (low, high), input_id=x[0])

    return write


def _prelu(w: GraphWriter, node: fx.Node, op: ops.PReLU, x: Ids) -> int:
    return _two(w, "PReLU", x[0], w.constant(_array(op.slope).reshape(1, 1, 1, -1)), w.out(node))


def _concat(w: GraphWriter, node: fx.Node, op: ops.Concat, x: Ids) -> int:
    """Five values at most are joined at a time."""
    sizes = [w.size_in(node, i)[1] for i in range(len(x))]
    joined, channels = x[0], sizes[0]
    for start in range(1, len(x), MOST_JOINED - 1):
        parts = [joined, *x[start : start + MOST_JOINED - 1]]
        channels += sum(sizes[start : start + MOST_JOINED - 1])
        complete = start + MOST_JOINED - 1 >= len(x)
        n, _, h, width = w.shapes[node]
        target = w.out(node) if complete else w.out(node, f"_{start}", (n, h, width, channels))
        joined = _join(w, parts, target, 3)
    return joined


def _join(w: GraphWriter, parts: Ids, y: int, axis: int) -> int:
    ids = [*parts, *[NOTHING] * (MOST_JOINED - len(parts))]
    named: dict[str, Any] = {f"input{i + 1}_id": identity for i, identity in enumerate(ids)}
    return w.node(f"Concatenate{len(parts)}", y, axis=axis, **named)


def _avg_pool(w: GraphWriter, node: fx.Node, op: ops.AvgPool, x: Ids) -> int:
    k = op.factor
    facts: dict[str, Any] = {f"padding_{side}": 0 for side in ("top", "right", "bottom", "left")}
    for name, extent in (("pooling", k), ("stride", k), ("dilation", 0)):
        facts |= {f"{name}_height": extent, f"{name}_width": extent}
    return w.node("AvgPooling2d", w.out(node), input_id=x[0], flags=KEEP_DIMS, **facts)


def _resize(w: GraphWriter, node: fx.Node, op: ops.Upsample | ops.StretchRows, x: Ids) -> int:
    _, _, height, width = w.shapes[node]
    flags = ALIGN_CORNERS if op.align_corners else 0
    y = w.out(node)
    return w.node("StaticResizeBilinear2D", y, input_id=x[0], new_height=height, new_width=width, flags=flags)


def _permute(w: GraphWriter, node: fx.Node, op: ops.Permute, x: Ids) -> int:
    """XNNPACK has no gather: a 1×1 convolution with ones in the right places."""
    matrix = torch.eye(len(op.index), dtype=torch.float64)[op.index][:, :, None, None]
    return conv(w, node, ops.Conv(matrix), x)


def _slice(w: GraphWriter, node: fx.Node, suffix: str, x: int, first: Shape, size: Shape) -> int:
    y = w.out(node, suffix, size)
    return w.node("StaticSlice", y, num_dims=len(size), offsets=list(first), sizes=list(size), input_id=x)


def _as(w: GraphWriter, node: fx.Node, suffix: str, x: int, shape: Shape) -> int:
    y = w.out(node, suffix, shape)
    return w.node("StaticReshape", y, num_dims=len(shape), new_shape=list(shape), input_id=x)


def _first_channels(w: GraphWriter, node: fx.Node, op: ops.FirstChannels, x: Ids) -> int:
    return _slice(w, node, "", x[0], (0, 0, 0, 0), nhwc(w.shapes[node]))


def _max_channel(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
    return _largest(w, node, "", x[0], w.size_in(node)[1])


def _largest(w: GraphWriter, node: fx.Node, suffix: str, x: int, channels: int) -> int:
    """XNNPACK reduces no channels here: the larger of two halves, which share the middle of an odd number."""
    n, _, h, width = w.shapes[node]
    step = 0
    while channels > 1:
        half = -(-channels // 2)
        size, step = (n, h, width, half), step + 1
        low = _slice(w, node, f"{suffix}_low{step}", x, (0, 0, 0, 0), size)
        high = _slice(w, node, f"{suffix}_high{step}", x, (0, 0, 0, channels - half), size)
        name = suffix if half == 1 else f"{suffix}_max{step}"
        x, channels = _two(w, "Maximum", low, high, w.out(node, name, size)), half
    return x


def _positive(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
    """Rounded up, what is above zero is one or more; the rest is not."""
    up = w.node("Ceiling", w.out(node, "_up"), input_id=x[0])
    return w.node("Clamp", w.out(node), (0.0, 1.0), input_id=up)


def _arg_max(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
    """count − max over channels of (count − i) where channel i is the largest: the first one on a tie."""
    n, count, h, width = w.size_in(node)
    shape = (n, h, width, count)
    below = _two(w, "Subtract", x[0], _largest(w, node, "_top", x[0], count), w.out(node, "_below", shape))
    whole = w.node("Floor", w.out(node, "_whole", shape), input_id=below)
    missed = w.node("Clamp", w.out(node, "_missed", shape), (-1.0, 0.0), input_id=whole)
    rank = np.arange(count, 0, -1.0).reshape(1, 1, 1, -1)
    there = _two(w, "Add", missed, w.constant(np.ones(1)), w.out(node, "_there", shape))
    ranked = _two(w, "Multiply", there, w.constant(rank), w.out(node, "_ranked", shape))
    best = _largest(w, node, "_best", ranked, count)
    return _two(w, "Subtract", w.constant(np.array([float(count)])), best, w.out(node))


def _depth_to_space(w: GraphWriter, node: fx.Node, op: ops.DepthToSpace, x: Ids) -> int:
    n, c, h, width = w.size_in(node)
    b = op.block
    blocks = _as(w, node, "_blocks", x[0], (n, h, width, b, b, c // b**2))
    woven = w.out(node, "_woven", (n, h, b, width, b, c // b**2))
    order = [0, 1, 3, 2, 4, 5]
    return _as(
        w, node, "", w.node("StaticTranspose", woven, num_dims=6, perm=order, input_id=blocks), nhwc(w.shapes[node])
    )


def _reshape(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
    return _as(w, node, "", x[0], nhwc(w.shapes[node]))


def _from_image(w: GraphWriter, node: fx.Node, op: nn.Module, x: Ids) -> int:
    """The numbers come as floats already."""
    return x[0]


WRITERS: dict[type, Write] = {
    ops.Conv: conv,
    ops.Deconv: deconv,
    ops.Affine: _affine,
    ops.PReLU: _prelu,
    ops.Concat: _concat,
    ops.Add: _binary("Add"),
    ops.Mul: _binary("Multiply"),
    ops.AvgPool: _avg_pool,
    ops.GlobalMean: _unary("GlobalAvgPooling2d", KEEP_DIMS),
    ops.Upsample: _resize,
    ops.Permute: _permute,
    ops.Softmax: _unary("Softmax"),
    ops.MaxChannel: _max_channel,
    ops.Sigmoid: _unary("Sigmoid"),
    ops.Abs: _unary("Abs"),
    ops.Positives: _between(0.0, np.inf),
    ops.Negatives: _between(-np.inf, 0.0),
    ops.DepthToSpace: _depth_to_space,
    ops.FirstChannels: _first_channels,
    ops.ArgMax: _arg_max,
    ops.Positive: _positive,
    ops.FromImage: _from_image,
    ops.ColumnsToChannels: _reshape,
    ops.ChannelsToColumns: _reshape,
    ops.StretchRows: _resize,
    FakeQuantise: fake_quantise,
    QuantisedConv: quantised_conv,
}
