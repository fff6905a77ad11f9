"""Two convolutions with nothing between them, the second 1×1, are one."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user


def merge_pointwise(graph: fx.GraphModule) -> int:
    """dense convolution → 1×1 convolution becomes one convolution, where that is no more work.

    This is what makes a mask of two classes cheaper than their logits: the difference of the two channels is taken in
    the weights of the last layer.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        second = op_of(graph, node)
        if not isinstance(second, ops.Conv) or tuple(second.weight.shape[2:]) != (1, 1) or second.groups != 1:
            continue
        before = node.args[0]
        first = op_of(graph, before)
        if not isinstance(first, ops.Conv) or first.groups != 1 or not sole_user(before, node):
            continue
        if second.stride != (1, 1) or second.padding != (0, 0) or second.weight.shape[0] > first.weight.shape[0]:
            continue
        _merge(first, second)
        node.replace_all_uses_with(before)
        graph.graph.erase_node(node)
        changed += 1
    return changed


def _merge(first: ops.Conv, second: ops.Conv) -> None:
    mix = second.weight[:, :, 0, 0]
    if first.bias is not None:
        carried = mix @ first.bias
        second.bias = carried if second.bias is None else carried + second.bias
    first.weight = torch.einsum("om,mihw->oihw", mix, first.weight)
    first.bias = second.bias
