"""A long depthwise convolution as two short dilated ones."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.graph.shapes import shapes

KERNELS = (9, 25)
"""Taps of XNNPACK's fast depthwise kernels: 10 cost as much as 25, and 27×1 takes 7 ms where 25×1 takes 0.3."""


def split_depthwise(graph: fx.GraphModule) -> int:
    """k×1 and 1×k depthwise becomes even taps plus odd taps, each with dilation two.

    Taken where there is no kernel for all taps, or where two of the smaller kernel do what takes one of the larger.
    A map one pixel wide (see `by_rows`) keeps its one pass: there the sum costs more.
    """
    size = shapes(graph, graph.meta["input_shape"])
    changed = 0
    for node in list(graph.graph.nodes):
        conv = op_of(graph, node)
        if not isinstance(conv, ops.Conv) or not conv.is_depthwise or not _is_long(conv, size[node][3]):
            continue
        axis = 2 if conv.weight.shape[2] > 1 else 3
        even, odd = (_taps(conv, axis, start) for start in (0, 1))
        users = list(node.users)
        source = node.args[0]
        second = insert(graph, node, f"{node.name}_odd", odd, source)
        total = insert(graph, second, f"{node.name}_sum", ops.Add(), node, second)
        for user in users:
            user.replace_input_with(node, total)
        conv.weight, conv.padding, conv.dilation = even.weight, even.padding, even.dilation
        changed += 1
    return changed


def _is_long(conv: ops.Conv, width: int) -> bool:
    """One-dimensional, undilated, stride one, centred, odd, and better halved."""
    kh, kw = conv.weight.shape[2:]
    centred = conv.padding == ((kh - 1) // 2, (kw - 1) // 2) and kh % 2 == kw % 2 == 1
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and min(kh, kw) == 1
    small, large = KERNELS
    halved = kh * kw > large or (width > 1 and small < kh * kw < 2 * small)
    return plain and centred and halved


def _taps(conv: ops.Conv, axis: int, start: int) -> ops.Conv:
    """Every second tap from ``start``; the odd ones are one fewer and begin one pixel later, so they pad one less."""
    weight = conv.weight[:, :, start::2] if axis == 2 else conv.weight[:, :, :, start::2]
    reach = conv.padding[axis - 2] - start
    padding, dilation = ((reach, 0), (2, 1)) if axis == 2 else ((0, reach), (1, 2))
    return ops.Conv(weight.contiguous(), conv.bias if start == 0 else None, (1, 1), padding, dilation, conv.groups)
