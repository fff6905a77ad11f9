"""The information-blocking gate of two classes without a softmax."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.rewrites.push_affine import channels


def two_class_gate(graph: fx.GraphModule) -> int:
    """1 − max softmax(x₀, x₁) becomes sigmoid(−|x₁ − x₀|)."""
    changed = 0
    for node in list(graph.graph.nodes):
        affine = op_of(graph, node)
        if not isinstance(affine, ops.Affine) or not (affine.scale == -1).all() or not (affine.shift == 1).all():
            continue
        largest = node.args[0]
        softmax = largest.args[0] if isinstance(op_of(graph, largest), ops.MaxChannel) else None
        if softmax is None or not isinstance(op_of(graph, softmax), ops.Softmax):
            continue
        logits = softmax.args[0]
        if channels(graph, logits) != 2:
            continue
        node.replace_all_uses_with(_gate(graph, node, logits))
        graph.graph.erase_node(node)
        changed += 1
    return changed


def _gate(graph: fx.GraphModule, node: fx.Node, logits: fx.Node) -> fx.Node:
    minus = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)[:, :, None, None]
    difference = insert(graph, node, f"{node.name}_difference", ops.Conv(minus), logits)
    distance = insert(graph, difference, f"{node.name}_distance", ops.Abs(), difference)
    one = torch.ones(1, dtype=torch.float64)
    negative = insert(graph, distance, f"{node.name}_negative", ops.Affine(-one, 0 * one), distance)
    return insert(graph, negative, f"{node.name}_gate", ops.Sigmoid(), negative)
