"""Channels nobody reads need not be computed."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user


def drop_channels(graph: fx.GraphModule) -> int:
    """dense convolution → first channels becomes a convolution to those channels alone.

    Street networks have a class that serves training only; a mask or a probability leaves it out.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        first = op_of(graph, node)
        maker = node.args[0] if isinstance(first, ops.FirstChannels) else None
        if not isinstance(maker, fx.Node) or not sole_user(maker, node):
            continue
        conv = op_of(graph, maker)
        if not isinstance(conv, ops.Deconv) and not (isinstance(conv, ops.Conv) and conv.groups == 1):
            continue
        kept = first.count  # type: ignore[union-attr]
        conv.weight = conv.weight[:kept] if isinstance(conv, ops.Conv) else conv.weight[:, :kept]
        conv.bias = None if conv.bias is None else conv.bias[:kept]
        node.replace_all_uses_with(maker)
        graph.graph.erase_node(node)
        changed += 1
    return changed
