"""The intermediate form as a graph of ExecuTorch's XNNPACK delegate, channels last between its two ends.

ExecuTorch's own road (export, edge program, partitioner, passes) takes 25 to 50 seconds of CPU a file and leaves some
operations outside; this one takes less than a second and delegates everything. A slow test compares the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.shapes import Shape, shapes
from lightseg.export.writers.half import as_half

INPUT, OUTPUT = 1, 2
"""Flags of values the delegate is given and gives."""
ALIGN_CORNERS, KEEP_DIMS = 0x08, 0x40
NOTHING = 2**32 - 1
"""The id of a value that is left out."""
ELSEWHERE = 2**64 - 1
"""The offset of a constant that is found by its name."""
MOST_JOINED = 5
"""Inputs one concatenation takes."""


@dataclass
class XnnGraph:
    """What the delegate is given: the graph in ExecuTorch's own schema, its constants by hash, its values' names."""

    graph: Any
    constants: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """By the value's id; constants have none."""


def xnn_graph(
    graph: fx.GraphModule, input_shape: Shape, input_name: str, output_name: str, half: bool = False
) -> XnnGraph:
    """The delegate's graph of ``graph``. Input and output are N×C×H×W float32, as in the PyTorch network.

    ``input_shape`` is N×3×H×W, or N×H×W×3 where the graph takes images: such a file takes N×3×H×W floats from 0 to 255.
    With ``half``, all weights and all values in between are float16.

    Errors: `Unsupported` when a weight does not fit float16.
    """
    return _Writer(graph, input_shape, half).write(input_name, output_name)


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], shape[2], shape[3], shape[1])


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()


class _Writer:
    def __init__(self, graph: fx.GraphModule, input_shape: Shape, half: bool) -> None:
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        self.schema, self.graph, self.half = schema, graph, half
        self.takes_images = any(isinstance(m, ops.FromImage) for m in graph.children())
        self.shapes = shapes(graph, input_shape)
        self.made = XnnGraph(schema.XNNGraph("0", [], [], 2, [], [], [schema.ConstantDataOffset(0, 0)]))
        self.values: dict[fx.Node, int] = {}
        self.given: dict[tuple[str, Shape], int] = {}

    def write(self, input_name: str, output_name: str) -> XnnGraph:
        last = next(n for n in self.graph.graph.nodes if n.op == "output").args[0]
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._input(node, input_name)
            elif node.op == "call_module":
                op = self.graph.get_submodule(str(node.target))
                self.values[node] = WRITERS[type(op)](self, node, op, [self.values[a] for a in node.args])
        n, c, h, w = self.shapes[last]
        result = self.value(output_name, (n, c, h, w), OUTPUT, 1)
        first = self.value(f"{output_name}.half", (n, c, h, w)) if self.half else result
        self._transpose(self.values[last], first, (0, 3, 1, 2))
        if self.half:
            self.node("Convert", result, input_id=first)
        self.made.graph.output_ids.append(result)
        return self.made

    def _input(self, node: fx.Node, name: str) -> int:
        """Channels last from here on; images come as the same numbers in the same layout as everything else."""
        shape = self.shapes[node] if self.takes_images else _nhwc(self.shapes[node])
        n, h, w, c = shape
        given = self.value(name, (n, c, h, w), INPUT, 0)
        self.made.graph.input_ids.append(given)
        if self.half:
            given = self.node("Convert", self.value(f"{name}.half", (n, c, h, w)), input_id=given)
        return self._transpose(given, self.value(f"{name}.last", shape), (0, 2, 3, 1))

    def _transpose(self, x: int, y: int, order: Sequence[int]) -> int:
        return self.node("StaticTranspose", y, num_dims=len(order), perm=list(order), input_id=x)

    def value(self, name: str, shape: Sequence[int], flags: int = 0, external: int = NOTHING, constant: int = 0) -> int:
        s, identity = self.schema, len(self.made.names)
        wide, narrow = s.XNNDatatype.xnn_datatype_fp32, s.XNNDatatype.xnn_datatype_fp16
        kind, dims = (narrow if self.half and not flags else wide), [int(extent) for extent in shape]
        tensor = s.XNNTensorValue(kind, len(dims), dims, constant, external, flags, identity)
        self.made.graph.xvalues.append(s.XValue(tensor))
        self.made.names.append(name)
        return identity

    def out(self, node: fx.Node, suffix: str = "", shape: Shape | None = None) -> int:
        """The channels-last value of ``node``, or an intermediate one on the way to it."""
        return self.value(node.name + suffix, shape or _nhwc(self.shapes[node]))

    def constant(self, values: Tensor | NDArray[Any]) -> int:
        """Numbers of the network, stored once however often they occur."""
        array = as_half("the network", values) if self.half else np.ascontiguousarray(values, "<f4")
        data = array.tobytes()
        key = hashlib.sha256(data).hexdigest()
        if (key, array.shape) not in self.given:
            self.made.constants[key] = data
            table = self.made.graph.constant_data
            table.append(self.schema.ConstantDataOffset(ELSEWHERE, len(data), key))
            self.given[key, array.shape] = self.value("", array.shape, constant=len(table) - 1)
        return self.given[key, array.shape]

    def node(self, kind: str, y: int, limits: tuple[float, float] | None = None, flags: int = 0, **facts: Any) -> int:
        """Append an operation of the schema, which makes the value ``y``."""
        s = self.schema
        union = getattr(s, f"XNN{kind}")(output_id=y, flags=flags, **facts)
        between = limits and s.OutputMinMax(*(bound if np.isfinite(bound) else str(bound) for bound in limits))
        self.made.graph.xnodes.append(s.XNode(union, len(self.made.graph.xnodes), between))
        return y

    def size_in(self, node: fx.Node, index: int = 0) -> Shape:
        source = node.args[index]
        assert isinstance(source, fx.Node)
        return self.shapes[source]


Ids = list[int]


def _conv(w: _Writer, node: fx.Node, op: ops.Conv, x: Ids) -> int:
    weight = _array(op.weight)
    order, kind = ((1, 2, 3, 0), "DepthwiseConv2d") if op.is_depthwise else ((0, 2, 3, 1), "Conv2d")
    per_group = weight.shape[1], weight.shape[0] // op.groups
    bias = w.constant(op.bias) if op.bias is not None else NOTHING
    ids = {"input1_id": x[0], "filter_id": w.constant(weight.transpose(order)), "bias_id": bias}
    return _window(
        w, kind, w.out(node), weight.shape[2:], op.stride, op.padding, op.dilation, op.groups, per_group, ids
    )


def _deconv(w: _Writer, node: fx.Node, op: ops.Deconv, x: Ids) -> int:
    weight = _array(op.weight)
    kernel = weight.shape[2:]
    bias = w.constant(op.bias) if op.bias is not None else NOTHING
    ids = {"input1_id": x[0], "filter_id": w.constant(weight.transpose(1, 2, 3, 0)), "bias_id": bias}
    return _window(w, "ConvTranspose2d", w.out(node), kernel, kernel, (0, 0), (1, 1), 1, weight.shape[:2], ids)


def _window(
    w: _Writer,
    kind: str,
    y: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    per_group: Sequence[int],
    ids: dict[str, Any],
) -> int:
    facts: dict[str, Any] = dict.fromkeys(("adjustment_height", "adjustment_width"), 0)
    facts |= {"padding_top": padding[0], "padding_bottom": padding[0]}
    facts |= {"padding_left": padding[1], "padding_right": padding[1]}
    for name, pair in (("kernel", kernel), ("subsampling", stride), ("dilation", dilation)):
        facts |= {f"{name}_height": int(pair[0]), f"{name}_width": int(pair[1])}
    facts |= {"groups": groups, "group_input_channels": per_group[0], "group_output_channels": per_group[1]}
    return w.node(kind, y, **facts, **ids)


def _affine(w: _Writer, node: fx.Node, op: ops.Affine, x: Ids) -> int:
    scale, shift = (_per_channel(_array(v)) for v in (op.scale, op.shift))
    scaled = x[0]
    if (scale != 1).any() or not shift.any():
        target = w.out(node, "_scaled") if shift.any() else w.out(node)
        scaled = _two(w, "Multiply", scaled, w.constant(scale), target)
    return _two(w, "Add", scaled, w.constant(shift), w.out(node)) if shift.any() else scaled


def _per_channel(values: NDArray[Any]) -> NDArray[Any]:
    """A scalar where all channels agree."""
    return values[:1] if (values == values[0]).all() else values.reshape(1, 1, 1, -1)


def _two(w: _Writer, kind: str, a: int, b: int, y: int) -> int:
    return w.node(kind, y, input1_id=a, input2_id=b)


def _binary(kind: str) -> Callable[[_Writer, fx.Node, nn.Module, Ids], int]:
    def write(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return _two(w, kind, x[0], x[1], w.out(node))

    return write


def _unary(kind: str, flags: int = 0) -> Callable[[_Writer, fx.Node, nn.Module, Ids], int]:
    def write(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return w.node(kind, w.out(node), input_id=x[0], flags=flags)

    return write


def _between(low: float, high: float) -> Callable[[_Writer, fx.Node, nn.Module, Ids], int]:
    def write(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
        return w.node("Clamp", w.out(node), (low, high), input_id=x[0])

    return write


def _prelu(w: _Writer, node: fx.Node, op: ops.PReLU, x: Ids) -> int:
    return _two(w, "PReLU", x[0], w.constant(_array(op.slope).reshape(1, 1, 1, -1)), w.out(node))


def _concat(w: _Writer, node: fx.Node, op: ops.Concat, x: Ids) -> int:
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


def _join(w: _Writer, parts: Ids, y: int, axis: int) -> int:
    ids = [*parts, *[NOTHING] * (MOST_JOINED - len(parts))]
    named: dict[str, Any] = {f"input{i + 1}_id": identity for i, identity in enumerate(ids)}
    return w.node(f"Concatenate{len(parts)}", y, axis=axis, **named)


def _avg_pool(w: _Writer, node: fx.Node, op: ops.AvgPool, x: Ids) -> int:
    k = op.factor
    facts: dict[str, Any] = {f"padding_{side}": 0 for side in ("top", "right", "bottom", "left")}
    for name, extent in (("pooling", k), ("stride", k), ("dilation", 0)):
        facts |= {f"{name}_height": extent, f"{name}_width": extent}
    return w.node("AvgPooling2d", w.out(node), input_id=x[0], flags=KEEP_DIMS, **facts)


def _resize(w: _Writer, node: fx.Node, op: ops.Upsample | ops.StretchRows, x: Ids) -> int:
    _, _, height, width = w.shapes[node]
    flags = ALIGN_CORNERS if op.align_corners else 0
    y = w.out(node)
    return w.node("StaticResizeBilinear2D", y, input_id=x[0], new_height=height, new_width=width, flags=flags)


def _permute(w: _Writer, node: fx.Node, op: ops.Permute, x: Ids) -> int:
    """XNNPACK has no gather: a 1×1 convolution with ones in the right places."""
    matrix = torch.eye(len(op.index), dtype=torch.float64)[op.index][:, :, None, None]
    return _conv(w, node, ops.Conv(matrix), x)


def _slice(w: _Writer, node: fx.Node, suffix: str, x: int, first: Shape, size: Shape) -> int:
    y = w.out(node, suffix, size)
    return w.node("StaticSlice", y, num_dims=len(size), offsets=list(first), sizes=list(size), input_id=x)


def _as(w: _Writer, node: fx.Node, suffix: str, x: int, shape: Shape) -> int:
    y = w.out(node, suffix, shape)
    return w.node("StaticReshape", y, num_dims=len(shape), new_shape=list(shape), input_id=x)


def _first_channels(w: _Writer, node: fx.Node, op: ops.FirstChannels, x: Ids) -> int:
    return _slice(w, node, "", x[0], (0, 0, 0, 0), _nhwc(w.shapes[node]))


def _max_channel(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
    return _largest(w, node, "", x[0], w.size_in(node)[1])


def _largest(w: _Writer, node: fx.Node, suffix: str, x: int, channels: int) -> int:
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


def _positive(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
    """Rounded up, what is above zero is one or more; the rest is not."""
    up = w.node("Ceiling", w.out(node, "_up"), input_id=x[0])
    return w.node("Clamp", w.out(node), (0.0, 1.0), input_id=up)


def _arg_max(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
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


def _depth_to_space(w: _Writer, node: fx.Node, op: ops.DepthToSpace, x: Ids) -> int:
    n, c, h, width = w.size_in(node)
    b = op.block
    blocks = _as(w, node, "_blocks", x[0], (n, h, width, b, b, c // b**2))
    woven = w.out(node, "_woven", (n, h, b, width, b, c // b**2))
    order = [0, 1, 3, 2, 4, 5]
    return _as(
        w, node, "", w.node("StaticTranspose", woven, num_dims=6, perm=order, input_id=blocks), _nhwc(w.shapes[node])
    )


def _reshape(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
    return _as(w, node, "", x[0], _nhwc(w.shapes[node]))


def _halo(w: _Writer, node: fx.Node, op: ops.Halo, x: Ids) -> int:
    """Blocks as columns; the neighbours' edges are slices of a shifted copy, joined by one concatenation."""
    n, c, h, _ = w.size_in(node)
    block, reach = c // op.blocks, op.reach
    blocks = (n, h, op.blocks, block)
    padded = w.out(node, "_pad", (n, h, 1, c + 2 * reach))
    pads = [0, 0, 0, reach]
    w.node("StaticConstantPad", padded, pre_paddings=pads, post_paddings=pads, padding_value=0.0, input_id=x[0])

    def edge(name: str, shift: int, first: int) -> int:
        moved = _slice(w, node, f"_{name}_all", padded, (0, 0, 0, shift), (n, h, 1, c))
        columns = _as(w, node, f"_{name}_blocks", moved, blocks)
        return _slice(w, node, f"_{name}", columns, (0, 0, 0, first), (n, h, op.blocks, reach))

    parts = [edge("left", 0, 0), _as(w, node, "_own", x[0], blocks), edge("right", 2 * reach, block - reach)]
    joined = _join(w, parts, w.out(node, "_joined", (n, h, op.blocks, block + 2 * reach)), 3)
    return _as(w, node, "", joined, _nhwc(w.shapes[node]))


def _from_image(w: _Writer, node: fx.Node, op: nn.Module, x: Ids) -> int:
    """The numbers come as floats already."""
    return x[0]


WRITERS: dict[type, Callable[[_Writer, fx.Node, Any, Ids], int]] = {
    ops.Conv: _conv,
    ops.Deconv: _deconv,
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
    ops.Halo: _halo,
}
