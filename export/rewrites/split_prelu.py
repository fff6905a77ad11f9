"""PReLU from the two operations every runtime is fast at."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of


def split_prelu(graph: fx.GraphModule) -> int:
    """PReLU becomes max(x, 0) + slope · min(x, 0): exact for every slope, negative ones included."""
    changed = 0
    for node in list(graph.graph.nodes):
        prelu = op_of(graph, node)
        if not isinstance(prelu, ops.PReLU):
            continue
        source = node.args[0]
        above = insert(graph, node, f"{node.name}_above", ops.Positives(), source)
        below = insert(graph, above, f"{node.name}_below", ops.Negatives(), source)
        slope = ops.Affine(prelu.slope, torch.zeros_like(prelu.slope))
        scaled = insert(graph, below, f"{node.name}_slope", slope, below)
        node.replace_all_uses_with(insert(graph, scaled, f"{node.name}_sum", ops.Add(), above, scaled))
        graph.graph.erase_node(node)
        changed += 1
    return changed
