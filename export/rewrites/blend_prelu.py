"""PReLU from convolutions and ReLU alone, for runtimes that keep those in a layout of their own."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.rewrites.push_scale import scale_reader, takes


def blend_prelu(graph: fx.GraphModule) -> int:
    """PReLU of slope a becomes max((1 − a)·x, 0) + a·x; where a is above one, x − max((1 − a)·x, 0).

    Both products are 1×1 depthwise convolutions, so that a runtime can fold the maximum and the sum into them, and
    nothing in between asks for another layout; they take a batch norm in front along. What reads the result takes the
    difference's sign where it can, so that it too is a sum. Exact for every slope.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        prelu = op_of(graph, node)
        if isinstance(prelu, ops.PReLU):
            _blend(graph, node, prelu.slope)
            changed += 1
    return changed


def _blend(graph: fx.GraphModule, node: fx.Node, slope: Tensor) -> None:
    source, scale, shift = _normed(graph, node, slope)
    steep, ones = slope > 1, torch.ones_like(slope)
    signs = torch.where(steep, -1.0, 1.0).to(slope.dtype)
    straight = torch.where(steep, ones, slope)
    turned = bool(steep.any()) and all(takes(graph, user) for user in node.users)
    if turned:
        for user in list(node.users):
            scale_reader(graph, node, user, signs)
        straight = straight * signs
    bend = insert(graph, node, f"{node.name}_bend", _scaled(1 - slope, scale, shift), source)
    bent = insert(graph, bend, f"{node.name}_bent", ops.Positives(), bend)
    if steep.any() and not turned:
        bent = insert(graph, bent, f"{node.name}_sign", _scaled(signs, ones, torch.zeros_like(slope)), bent)
    line = insert(graph, bent, f"{node.name}_line", _scaled(straight, scale, shift), source)
    node.replace_all_uses_with(insert(graph, line, f"{node.name}_sum", ops.Add(), bent, line))
    graph.graph.erase_node(node)


def _normed(graph: fx.GraphModule, node: fx.Node, slope: Tensor) -> tuple[fx.Node, Tensor, Tensor]:
    """What the PReLU works on: a value, times a scale, plus a shift per channel."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    norm, ones, zeros = op_of(graph, source), torch.ones_like(slope), torch.zeros_like(slope)
    if not isinstance(norm, ops.Affine):
        return source, ones, zeros
    before = source.args[0]
    assert isinstance(before, fx.Node)
    return before, ones * norm.scale, zeros + norm.shift


def _scaled(factor: Tensor, scale: Tensor, shift: Tensor) -> ops.Conv:
    """factor · (scale · x + shift)"""
    bias = factor * shift if shift.any() else None
    return ops.Conv((factor * scale)[:, None, None, None].clone(), bias, groups=len(factor))
