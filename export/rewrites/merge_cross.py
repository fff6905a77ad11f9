"""k×1 plus 1×k depthwise is one k×k depthwise convolution."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user


def merge_cross(graph: fx.GraphModule) -> int:
    """conv(x) + conv(x) of two depthwise kernels that keep the size becomes one convolution with the summed kernel."""
    changed = 0
    for node in list(graph.graph.nodes):
        if not isinstance(op_of(graph, node), ops.Add) or len(node.args) != 2:
            continue
        first, second = node.args
        a, b = op_of(graph, first), op_of(graph, second)
        if not (isinstance(a, ops.Conv) and isinstance(b, ops.Conv) and _mergeable(a, b)):
            continue
        if first is second or first.args != second.args or not sole_user(first, node) or not sole_user(second, node):
            continue
        _merge(a, b)
        node.replace_all_uses_with(first)
        graph.graph.erase_node(node)
        graph.graph.erase_node(second)
        changed += 1
    return changed


def _mergeable(a: ops.Conv, b: ops.Conv) -> bool:
    """Depthwise, undilated, centred, at stride one: each reads the window around its own pixel."""
    return all(
        c.is_depthwise
        and c.stride == (1, 1)
        and c.dilation == (1, 1)
        and c.padding == ((c.weight.shape[2] - 1) // 2, (c.weight.shape[3] - 1) // 2)
        and c.weight.shape[2] % 2 == c.weight.shape[3] % 2 == 1
        and c.weight.shape[0] == a.weight.shape[0]
        for c in (a, b)
    )


def _merge(a: ops.Conv, b: ops.Conv) -> None:
    height, width = (max(a.weight.shape[d], b.weight.shape[d]) for d in (2, 3))
    kernel = torch.zeros(a.weight.shape[0], 1, height, width, dtype=a.weight.dtype)
    for conv in (a, b):
        kh, kw = conv.weight.shape[2:]
        top, left = (height - kh) // 2, (width - kw) // 2
        kernel[:, :, top : top + kh, left : left + kw] += conv.weight
    biases = [c.bias for c in (a, b) if c.bias is not None]
    a.weight, a.padding = kernel, ((height - 1) // 2, (width - 1) // 2)
    a.bias = sum(biases[1:], biases[0]) if biases else None
