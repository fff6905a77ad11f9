"""A 1×1 convolution commutes with bilinear upsampling, and is four times cheaper in front of it."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user


def conv_before_upsample(graph: fx.GraphModule) -> int:
    """upsample → 1×1 convolution becomes 1×1 convolution → upsample, where that does not widen what is upsampled.

    The bilinear weights sum to one, so a bias passes too.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        conv = op_of(graph, node)
        if not isinstance(conv, ops.Conv) or not is_pointwise(conv):
            continue
        upsample = node.args[0]
        if not isinstance(op_of(graph, upsample), ops.Upsample) or not sole_user(upsample, node):
            continue
        if conv.weight.shape[0] > conv.in_channels:
            continue
        node.replace_all_uses_with(upsample)
        node.args = (upsample.args[0],)
        upsample.prepend(node)
        upsample.args = (node,)
        changed += 1
    return changed


def is_pointwise(conv: ops.Conv) -> bool:
    """1×1, every pixel once, nothing around."""
    return tuple(conv.weight.shape[2:]) == (1, 1) and conv.stride == (1, 1) and conv.padding == (0, 0)
