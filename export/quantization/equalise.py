"""Channels made alike: every free scale of the network set so that one grid fits all channels of a map.

Scaling a channel and dividing it back in whatever reads it changes nothing. A convolution or an affine absorbs a scale
on either side; PReLU, pooling, upsampling, sums and concatenations pass positive scales on, and so tie channels of
several maps to one scale. What is left is one free number per class of tied channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.scale import scale_inputs, scale_outputs
from lightseg.export.quantization.ranges import Seen

SHARE = 0.5
"""How much of the difference between channels moves into the weights that read them: the rest stays, as the weights
have a grid too. Where depthwise convolutions alone read the channels all of it moves, since there every channel's
weights have a grid of their own. (With a half there too, the long depthwise pairs of C3NetV2 at 256×512 lost so much
that 80 % of the pixels kept their class and not 93 %.)"""
FURTHEST = 2.0**12
"""No scale beyond this."""

PASSING = (
    ops.PReLU, ops.Positives, ops.Negatives, ops.Abs, ops.AvgPool, ops.GlobalMean, ops.Upsample, ops.Add,
)  # fmt: skip
"""Channel c of every input and of the output share one positive scale."""
ABSORBING = (ops.Conv, ops.Deconv, ops.Affine)
"""Inputs and outputs may be scaled apart."""


@dataclass
class Classes:
    """Channels that share one scale, by union and find; number 0 is the class that stays as it is."""

    start: dict[fx.Node, int]
    width: dict[fx.Node, int]
    parent: list[int]

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = i = self.parent[self.parent[i]]
        return i

    def tie(self, a: int, b: int) -> None:
        low, high = sorted((self.find(a), self.find(b)))
        self.parent[high] = low

    def tie_all(self, node: fx.Node, source: fx.Node, offset: int = 0) -> None:
        for i in range(self.width[source]):
            self.tie(self.start[node] + offset + i, self.start[source] + i)

    def pin(self, node: fx.Node) -> None:
        for i in range(self.width[node]):
            self.tie(self.start[node] + i, 0)

    def of(self, node: fx.Node) -> Tensor:
        """The class of every channel."""
        return torch.tensor([self.find(self.start[node] + i) for i in range(self.width[node])])


def equalise_channels(graph: fx.GraphModule, seen: Mapping[str, Seen], outputs: bool) -> int:
    """Scale ``graph``'s channels in place; return how many classes got a scale. ``outputs``: what convolutions return
    is to be quantised as well as what they read."""
    scale = channel_scales(graph, seen, outputs)
    rescale(graph, {name: len(value.largest) for name, value in seen.items()}, scale)
    return int((scale != 1).sum())


def channel_scales(graph: fx.GraphModule, seen: Mapping[str, Seen], outputs: bool, by_reach: bool = False) -> Tensor:
    """The scale of every class of tied channels, powers of two, float64; by the channels' peaks or by their reach."""
    sizes = {name: value.reach if by_reach else value.largest for name, value in seen.items()}
    return _scales(graph, tied(graph, {name: len(size) for name, size in sizes.items()}), sizes, outputs)


def rescale(graph: fx.GraphModule, widths: Mapping[str, int], scale: Tensor) -> None:
    """Scale ``graph``'s channels in place, by class."""
    rescale_by_name(graph, scales_by_name(graph, widths, scale))


def scales_by_name(graph: fx.GraphModule, widths: Mapping[str, int], scale: Tensor) -> dict[str, Tensor]:
    """The scale of every channel of every value, by node."""
    classes = tied(graph, widths)
    return {node.name: scale[classes.of(node)] for node in classes.start}


def rescale_by_name(graph: fx.GraphModule, scales: Mapping[str, Tensor]) -> None:
    """Scale ``graph``'s channels in place; a value without scales stays as it is."""
    one = torch.ones(1, dtype=torch.float64)
    for node in graph.graph.nodes:
        op = op_of(graph, node)
        if isinstance(op, ABSORBING):
            _rescale(op, *(scales.get(value.name, one).expand(n) for value, n in _ends(op, node)))


def _ends(op: nn.Module, node: fx.Node) -> tuple[tuple[fx.Node, int], tuple[fx.Node, int]]:
    """What ``op`` reads and what it writes, with their channels."""
    (source,) = node.all_input_nodes
    if isinstance(op, ops.Affine):
        return (source, len(op.scale)), (node, len(op.scale))
    assert isinstance(op, ops.Conv | ops.Deconv)
    if isinstance(op, ops.Conv):
        return (source, op.in_channels), (node, len(op.weight))
    return (source, len(op.weight)), (node, op.weight.shape[1])


def tied(graph: fx.GraphModule, widths: Mapping[str, int]) -> Classes:
    """The classes of ``graph``; ``widths`` knows the channels of every value."""
    width = {n: widths[n.name] for n in graph.graph.nodes if n.name in widths}
    start, count = {}, 1
    for node, channels in width.items():
        start[node], count = count, count + channels
    classes = Classes(start, width, list(range(count)))
    for node in graph.graph.nodes:
        op = op_of(graph, node)
        if op is None or isinstance(op, ops.FromImage):
            for value in (node, *node.all_input_nodes):
                if value in width:
                    classes.pin(value)
        else:
            _tie(classes, node, op)
    return classes


def _tie(classes: Classes, node: fx.Node, op: nn.Module) -> None:
    sources = node.all_input_nodes
    if isinstance(op, ABSORBING):
        return
    if isinstance(op, PASSING):
        for source in sources:
            classes.tie_all(node, source)
    elif isinstance(op, ops.Concat):
        offset = 0
        for part in node.args:
            assert isinstance(part, fx.Node)
            classes.tie_all(node, part, offset)
            offset += classes.width[part]
    elif isinstance(op, ops.Permute):
        for i, j in enumerate(op.index.tolist()):
            classes.tie(classes.start[node] + i, classes.start[sources[0]] + j)
    elif isinstance(op, ops.Mul):
        _tie_product(classes, node)
    else:
        for value in (node, *sources):
            if value in classes.width:
                classes.pin(value)


def _tie_product(classes: Classes, node: fx.Node) -> None:
    """A product takes its scale from the side as wide as itself; the other side (a gate) stays."""
    first, second = node.args
    assert isinstance(first, fx.Node) and isinstance(second, fx.Node)
    swapped = classes.width[first] != classes.width[node]
    map_, gate = (second, first) if swapped else (first, second)
    classes.tie_all(node, map_)
    classes.pin(gate)


def _scales(graph: fx.GraphModule, classes: Classes, sizes: Mapping[str, Tensor], outputs: bool) -> Tensor:
    """One scale per class: the values' size and the weights' share of it, each to the power it is worth."""
    count = len(classes.parent)
    peak, weight = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    share = torch.ones(count, dtype=torch.float64)
    for node in graph.graph.nodes:
        op = op_of(graph, node)
        if isinstance(op, ops.Conv):
            index = classes.of(node.args[0])
            _raise(peak, index, sizes[node.args[0].name])
            _raise(weight, index, _read(op))
            if not op.is_depthwise:
                share[index] = SHARE
            if outputs:
                _raise(peak, classes.of(node), sizes[node.name])
    known = (peak > 0) & (weight > 0)
    known[0] = False
    scale = torch.ones(count, dtype=torch.float64)
    scale[known] = peak[known] ** -share[known] * weight[known] ** (1 - share[known])
    # Powers of two keep every bit of the float network.
    return torch.exp2(torch.round(torch.log2(scale))).clamp(1 / FURTHEST, FURTHEST)


def _raise(values: Tensor, index: Tensor, to: Tensor) -> None:
    for i, v in zip(index.tolist(), to.tolist()):
        values[i] = max(float(values[i]), v)


def _read(conv: ops.Conv) -> Tensor:
    """Per input channel: its largest share of the grid of a channel that reads it (a depthwise one fills its own)."""
    if conv.is_depthwise:
        return torch.ones(conv.in_channels, dtype=torch.float64)
    weight = conv.weight.abs()
    share = weight / weight.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    per_group = share.amax((2, 3)).view(conv.groups, -1, weight.shape[1])
    return per_group.amax(1).reshape(-1)


def _rescale(op: nn.Module, read: Tensor, written: Tensor) -> None:
    """Let ``op`` take inputs that are ``read`` times what they were and return ``written`` times what it did."""
    if isinstance(op, ops.Affine):
        op.scale, op.shift = op.scale * written / read, op.shift * written
        return
    assert isinstance(op, ops.Conv | ops.Deconv)
    if isinstance(op, ops.Conv):
        scale_inputs(op, 1 / read)
    else:
        op.weight = op.weight / read[:, None, None, None]
    biased = op.bias is not None
    scale_outputs(op, written, torch.zeros_like(written))
    if not biased:
        op.bias = None
