"""Channels in fours, which ONNX Runtime needs to keep a convolution in its own layout."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.rewrites.push_affine import channels

MULTIPLE = 4


def even_channels(graph: fx.GraphModule) -> int:
    """average pool of the image becomes a convolution with zero channels more, where a concatenation reads it.

    The pooled image's three channels make 19, 39 or 131 of 16, 36 or 128, and a convolution over a number that is no
    multiple of four leaves the layout that is several times faster. The zeros meet weights of zero.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        pool = op_of(graph, node)
        if not isinstance(pool, ops.AvgPool):
            continue
        width = channels(graph, node)
        met = _met(graph, node, [])
        if width >= MULTIPLE or not met or all(channels(graph, c) % MULTIPLE == 0 for c in met):
            continue
        _fill(graph, node, width, MULTIPLE - width)
        weight = torch.eye(MULTIPLE, width, dtype=torch.float64)[:, :, None, None] / pool.factor**2
        window = (pool.factor, pool.factor)
        graph.set_submodule(str(node.target), ops.Conv(weight.repeat(1, 1, *window), None, window))
        changed += 1
    return changed


def _met(graph: fx.GraphModule, value: fx.Node, known: list[fx.Node]) -> list[fx.Node] | None:
    """The concatenations behind ``value``; None where channels cannot be added, or one would be met twice."""
    for user in value.users:
        op = op_of(graph, user)
        if isinstance(op, ops.Concat):
            if user in known or user.args.count(value) > 1:
                return None
            known.append(user)
        elif isinstance(op, ops.Conv) and op.groups == 1:
            continue
        elif not _keeps_channels(op):
            return None
        if _met(graph, user, known) is None:
            return None
    return known


def _keeps_channels(op: object) -> bool:
    each = isinstance(op, ops.Conv) and op.is_depthwise and op.weight.shape[0] == op.groups
    return each or isinstance(op, ops.PReLU | ops.Affine | ops.AvgPool | ops.Upsample)


def _fill(graph: fx.GraphModule, value: fx.Node, at: int, count: int) -> None:
    """Let what reads ``value`` expect ``count`` zero channels more in front of channel ``at``."""
    for user in list(value.users):
        op = op_of(graph, user)
        if isinstance(op, ops.Conv) and op.groups == 1:
            op.weight = _filled(op.weight, 1, at, count)
            continue
        if isinstance(op, ops.Concat):
            place = user.args.index(value)
            _fill(graph, user, at + sum(channels(graph, source) for source in user.args[:place]), count)
            continue
        if isinstance(op, ops.Conv):
            op.groups += count
        for name, values in list(op.named_buffers()) if op is not None else []:
            if not (isinstance(op, ops.Affine) and len(values) == 1):
                setattr(op, name, _filled(values, 0, at, count))
        _fill(graph, user, at, count)


def _filled(values: Tensor, axis: int, at: int, count: int) -> Tensor:
    shape = list(values.shape)
    shape[axis] = count
    before, after = values.narrow(axis, 0, at), values.narrow(axis, at, values.shape[axis] - at)
    return torch.cat([before, values.new_zeros(shape), after], axis)
