"""What a number per channel does to a map, with a whole row in the vector lanes."""

from __future__ import annotations

from math import prod

from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.graph.shapes import Shape, shapes

LANES = 16
"""Channels in multiples of this fill the widest float32 vectors pixel by pixel already."""

MOST_VALUES = 2**19
"""Larger maps leave the cache, and then a reshape that has to copy costs more than the loops: street SINet 1.07."""
MOST_TAPS = 2**16
"""Weights of a depthwise convolution over rows: they must stay in a cache."""


def by_rows(graph: fx.GraphModule) -> int:
    """PReLU, affine or k×1 depthwise becomes the same on a map of the columns' channels, one pixel wide.

    Where channels come last that map is the same memory. A runtime loops over channels for every pixel, and a loop
    of 12 or 24 is mostly its beginning and end; a row of 112 pixels is one loop. Measured in LiteRT: 120 → 13 µs for
    a PReLU of 12 channels at 112×112, 32 → 7 µs for 24 at 56×56; 9 → 7 µs for 96 at 28×28, which the reshape eats.
    """
    size = shapes(graph, graph.meta["input_shape"])
    changed = 0
    for node in list(graph.graph.nodes):
        op = op_of(graph, node)
        if op is None or not _pays(op, size[node]):
            continue
        _repeat(op, size[node][3])
        _reshape(graph, node, size[node][1])
        changed += 1
    return changed


def _pays(op: nn.Module, shape: Shape) -> bool:
    """Every column for itself; not for one pixel, not for full vectors, not for one number for all channels."""
    if shape[1] % LANES == 0 or shape[3] == 1 or prod(shape) > MOST_VALUES:
        return False
    if isinstance(op, ops.Affine):
        return any(bool((v != v[0]).any()) for v in (op.scale, op.shift))
    if isinstance(op, ops.Conv):
        vertical = op.stride == (1, 1) and op.padding[1] == 0 and op.weight.shape[3] == 1
        each = op.is_depthwise and op.weight.shape[0] == op.groups
        return vertical and each and op.weight.numel() * shape[3] <= MOST_TAPS
    return isinstance(op, ops.PReLU)


def _repeat(op: nn.Module, columns: int) -> None:
    for name, values in list(op.named_buffers()):
        setattr(op, name, values.repeat(columns, *[1] * (values.dim() - 1)))
    if isinstance(op, ops.Conv):
        op.groups *= columns


def _reshape(graph: fx.GraphModule, node: fx.Node, channels: int) -> None:
    """Let ``node`` read rows and its readers pixels; two reshapes that would meet are none."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if isinstance(op_of(graph, source), ops.ChannelsToColumns):
        node.args = source.args
    else:
        node.args = (insert(graph, source, f"{node.name}_rows", ops.ColumnsToChannels(), source),)
    users = list(node.users)
    pixels = insert(graph, node, f"{node.name}_pixels", ops.ChannelsToColumns(channels), node)
    for user in users:
        user.replace_input_with(node, pixels)
        if isinstance(op_of(graph, user), ops.ColumnsToChannels):
            user.replace_all_uses_with(node)
            graph.graph.erase_node(user)
