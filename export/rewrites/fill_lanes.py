"""Channels that fill a runtime's vectors: it packs so many together, or, where they do not divide, none."""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of

LANES = 16
"""A block of ONNX Runtime's own layout where vectors are widest; elsewhere it is 8."""
PACKED = 8
"""Channels ncnn packs together where its vectors are widest."""
CHANNELWISE = (ops.PReLU, ops.Affine, ops.Add, ops.AvgPool, ops.Upsample)


def fill_lanes(graph: fx.GraphModule) -> int:
    """Zero channels between dense convolutions, up to a multiple of `LANES`, where a depthwise convolution needs it.

    ONNX Runtime takes 158 to 220 µs for a depthwise 15×1 of 18 channels at 56×56, outside its own layout; with 32
    channels ExtremeC3Net as a whole takes 0.74 of the time.
    """
    return fill(graph, LANES)


def fill_packing(graph: fx.GraphModule) -> int:
    """The same up to a multiple of `PACKED`, for ncnn, where a depthwise convolution over 18 channels is 18 of them."""
    return fill(graph, PACKED)


def fill(graph: fx.GraphModule, lanes: int) -> int:
    """Zero channels up to a multiple of ``lanes``; the number of places changed.

    Exact: a channel of zeros stays zero through depthwise convolutions, PReLU and sums, and the next dense convolution
    gives it weights of zero.
    """
    changed = 0
    for values in _regions(graph):
        added = -_width(graph, values) % lanes
        if added and any(_is_depthwise(graph, value) for value in values):
            _widen(graph, values, added)
            changed += 1
    return changed


def _is_dense(graph: fx.GraphModule, node: fx.Node) -> bool:
    op = op_of(graph, node)
    return isinstance(op, ops.Conv) and op.groups == 1


def _is_depthwise(graph: fx.GraphModule, node: fx.Node) -> bool:
    op = op_of(graph, node)
    return isinstance(op, ops.Conv) and op.is_depthwise and op.groups == op.weight.shape[0]


def _keeps_channels(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(op_of(graph, node), CHANNELWISE) or _is_depthwise(graph, node)


def _regions(graph: fx.GraphModule) -> Iterator[list[fx.Node]]:
    """Values of one width that dense convolutions alone make and alone read."""
    seen: set[fx.Node] = set()
    for start in graph.graph.nodes:
        if start in seen or not _is_dense(graph, start):
            continue
        region, waiting = dict.fromkeys([start]), [start]
        closed = True
        while waiting:
            value = waiting.pop()
            near = [user for user in value.users if _keeps_channels(graph, user)]
            closed &= all(user in near or _is_dense(graph, user) for user in value.users)
            if _keeps_channels(graph, value):
                near += value.all_input_nodes
            else:
                closed &= _is_dense(graph, value)
            fresh = [node for node in near if node not in region]
            region |= dict.fromkeys(fresh)
            waiting += fresh
        seen.update(region)
        if closed:
            yield list(region)


def _width(graph: fx.GraphModule, values: list[fx.Node]) -> int:
    makers = (op_of(graph, value) for value in values if _is_dense(graph, value))
    return next(op.weight.shape[0] for op in makers if isinstance(op, ops.Conv))


def _widen(graph: fx.GraphModule, values: list[fx.Node], added: int) -> None:
    for value in values:
        op = op_of(graph, value)
        if isinstance(op, ops.Conv):
            op.weight = _longer(op.weight, added)
            op.bias = None if op.bias is None else _longer(op.bias, added)
            op.groups += added if op.groups > 1 else 0
        elif isinstance(op, ops.PReLU):
            op.slope = _longer(op.slope, added)
        elif isinstance(op, ops.Affine) and len(op.scale) > 1:
            op.scale, op.shift = _longer(op.scale, added), _longer(op.shift, added)
    readers = dict.fromkeys(user for value in values for user in value.users if user not in values)
    for reader in (op_of(graph, user) for user in readers):
        assert isinstance(reader, ops.Conv)
        reader.weight = F.pad(reader.weight, (0, 0, 0, 0, 0, added))


def _longer(values: Tensor, added: int) -> Tensor:
    """With zeros behind the first dimension."""
    return F.pad(values, (0, 0) * (values.dim() - 1) + (0, added))
