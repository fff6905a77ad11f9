"""PReLU from convolutions and ReLU alone, for runtimes that keep those in a layout of their own."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of


def blend_prelu(graph: fx.GraphModule) -> int:
    """PReLU of slope a becomes max((1 − a)·x, 0) + a·x; where a is above one, x − max((1 − a)·x, 0).

    Both products are 1×1 depthwise convolutions, so that a runtime can fold the maximum and the sum into them, and
    nothing in between asks for another layout. Exact for every slope.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        prelu = op_of(graph, node)
        if isinstance(prelu, ops.PReLU):
            _blend(graph, node, prelu.slope)
            changed += 1
    return changed


def _blend(graph: fx.GraphModule, node: fx.Node, slope: Tensor) -> None:
    source, steep = node.args[0], slope > 1
    bend = insert(graph, node, f"{node.name}_bend", _scaled(1 - slope), source)  # type: ignore[arg-type]
    bent = insert(graph, bend, f"{node.name}_bent", ops.Positives(), bend)
    if steep.any():
        signs = torch.where(steep, -1.0, 1.0).to(slope.dtype)
        bent = insert(graph, bent, f"{node.name}_sign", _scaled(signs), bent)
    straight = _scaled(torch.where(steep, torch.ones_like(slope), slope))
    line = insert(graph, bent, f"{node.name}_line", straight, source)  # type: ignore[arg-type]
    node.replace_all_uses_with(insert(graph, line, f"{node.name}_sum", ops.Add(), bent, line))
    graph.graph.erase_node(node)


def _scaled(scale: Tensor) -> ops.Conv:
    return ops.Conv(scale[:, None, None, None].clone(), groups=len(scale))
