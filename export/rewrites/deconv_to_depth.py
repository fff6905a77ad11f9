"""A transposed convolution without overlap is a 1×1 convolution whose channels become pixels."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of


def deconv_to_depth(graph: fx.GraphModule) -> int:
    """k×k stride-k transposed convolution becomes 1×1 convolution → depth to space."""
    changed = 0
    for node in list(graph.graph.nodes):
        deconv = op_of(graph, node)
        if not isinstance(deconv, ops.Deconv):
            continue
        cin, cout, k, _ = deconv.weight.shape
        weight = deconv.weight.permute(2, 3, 1, 0).reshape(k * k * cout, cin)[:, :, None, None]
        bias = None if deconv.bias is None else deconv.bias.repeat(k * k)
        source = node.args[0]
        conv = insert(graph, source, f"{node.name}_conv", ops.Conv(weight, bias), source)
        node.replace_all_uses_with(insert(graph, conv, f"{node.name}_pixels", ops.DepthToSpace(k), conv))
        graph.graph.erase_node(node)
        changed += 1
    return changed
