"""PReLU with slopes of at most one, where its neighbours can turn the others round."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.rewrites.push_affine import CONVOLUTIONS, absorbs
from lightseg.export.rewrites.push_scale import FURTHEST, scale_reader, takes


def turn_steep(graph: fx.GraphModule) -> int:
    """PReLU of slope a above one, of x, becomes −a times the PReLU of slope 1/a, of −x.

    The sign goes into the convolution in front and the factor into what reads it. An affine in front does not do: it
    would hand the sign on to the PReLU (`push_scale`), which would be steep again. A PReLU without steep slopes needs
    one convolution less where it is made of convolutions: `blend_prelu`'s signs.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        prelu = op_of(graph, node)
        if not isinstance(prelu, ops.PReLU) or not (prelu.slope > 1).any() or (prelu.slope > FURTHEST).any():
            continue
        source = node.args[0]
        if absorbs(graph, source, node, CONVOLUTIONS) and all(takes(graph, user) for user in node.users):
            _turn(graph, node, prelu)
            changed += 1
    return changed


def _turn(graph: fx.GraphModule, node: fx.Node, prelu: ops.PReLU) -> None:
    steep, source = prelu.slope > 1, node.args[0]
    assert isinstance(source, fx.Node)
    ones = torch.ones_like(prelu.slope)
    for user in list(node.users):
        scale_reader(graph, node, user, torch.where(steep, -prelu.slope, ones))
    prelu.slope = torch.where(steep, 1 / prelu.slope, prelu.slope)
    sign = ops.Affine(torch.where(steep, -ones, ones), torch.zeros_like(ones))
    node.args = (insert(graph, source, f"{node.name}_turned", sign, source),)
