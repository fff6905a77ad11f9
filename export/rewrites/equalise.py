"""Large weights shared with the neighbour, by powers of two: what keeps a network inside float16."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user
from lightseg.export.graph.scale import scale_inputs, scale_outputs

LARGE = 256.0
"""Weights up to here are left alone: 2⁸ below float16's largest number."""

HOMOGENEOUS = (ops.PReLU, ops.Positives, ops.Negatives, ops.AvgPool, ops.GlobalMean, ops.Upsample)
"""op(s · x) = s · op(x) for every positive s, channel by channel."""


def equalise(graph: fx.GraphModule) -> int:
    """conv → … → conv: what one channel's weights are too large by moves to the other side as a power of two.

    Float64 results keep every bit: all products and sums are the old ones times a power of two. Each step replaces
    weights above `LARGE` by smaller ones and raises others only to below what those were, so it comes to an end.
    """
    changed = 0
    for first, second in list(_pairs(graph)):
        factor = torch.exp2(_exponents(first, second))
        if (factor == 1).all():
            continue
        biased = first.bias is not None
        scale_outputs(first, factor, torch.zeros_like(factor))
        if not biased:
            first.bias = None
        scale_inputs(second, 1 / factor)
        changed += 1
    return changed


def _pairs(graph: fx.GraphModule) -> Iterator[tuple[ops.Conv | ops.Deconv, ops.Conv]]:
    """A convolution and the one that alone reads it, with nothing but homogeneous operations between."""
    for node in graph.graph.nodes:
        second = op_of(graph, node)
        if not isinstance(second, ops.Conv):
            continue
        source, reader = node.args[0], node
        while isinstance(op_of(graph, source), HOMOGENEOUS) and sole_user(source, reader):
            source, reader = source.args[0], source
        first = op_of(graph, source)
        if isinstance(first, ops.Conv | ops.Deconv) and sole_user(source, reader):
            yield first, second


def _exponents(first: ops.Conv | ops.Deconv, second: ops.Conv) -> Tensor:
    """Per channel between the two: half the distance of their largest weights, in powers of two, rounded to zero."""
    written, read = _written(first), _read(second)
    exponents = torch.trunc((torch.log2(read) - torch.log2(written)) / 2)
    act = (torch.maximum(written, read) > LARGE) & (written > 0) & (read > 0)
    return torch.where(act, exponents, torch.zeros_like(exponents))


def _written(conv: ops.Conv | ops.Deconv) -> Tensor:
    """The largest weight or bias of every output channel."""
    largest = conv.weight.abs().amax((1, 2, 3) if isinstance(conv, ops.Conv) else (0, 2, 3))
    return largest if conv.bias is None else torch.maximum(largest, conv.bias.abs())


def _read(conv: ops.Conv) -> Tensor:
    """The largest weight on every input channel."""
    per_group = conv.weight.abs().amax((2, 3)).view(conv.groups, -1, conv.weight.shape[1])
    return per_group.amax(1).reshape(-1)
