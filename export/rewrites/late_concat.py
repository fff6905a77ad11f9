"""A concatenation moved to where there is less to copy, or nothing."""

from __future__ import annotations

from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.rewrites.push_affine import channels

FEW = 8
"""A convolution to this many times fewer channels is cheaper twice, with a sum, than once with a copy in front."""


def late_concat(graph: fx.GraphModule) -> int:
    """concat → channelwise operations → stride becomes those on every part, and the concatenation behind the stride.

    Where a dense convolution to few channels reads it, its weights are cut in parts too, and their results added:
    then nothing is copied at all.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        if isinstance(op_of(graph, node), ops.Concat) and len(set(node.args)) == len(node.args):
            chain = _chain(graph, node)
            if chain:
                _part(graph, node, chain)
                changed += 1
    return changed


def _chain(graph: fx.GraphModule, concat: fx.Node) -> list[fx.Node]:
    """What reads ``concat``, one after the other, up to the last operation that leaves less than it reads."""
    chain: list[fx.Node] = []
    shrunk = 0
    value = concat
    while len(value.users) == 1:
        value = next(iter(value.users))
        op = op_of(graph, value)
        if isinstance(op, ops.Conv) and op.groups == 1 and op.weight.shape[0] * FEW <= op.in_channels:
            return [*chain, value]
        if not _is_channelwise(op):
            break
        chain.append(value)
        if isinstance(op, ops.AvgPool) or (isinstance(op, ops.Conv) and max(op.stride) > 1):
            shrunk = len(chain)
    return chain[:shrunk]


def _is_channelwise(op: nn.Module | None) -> bool:
    each = isinstance(op, ops.Conv) and op.is_depthwise and op.weight.shape[0] == op.groups
    return each or isinstance(op, ops.Affine | ops.PReLU | ops.AvgPool)


def _part(graph: fx.GraphModule, concat: fx.Node, chain: list[fx.Node]) -> None:
    ends, start, last = [], 0, concat
    for source in concat.args:
        assert isinstance(source, fx.Node)
        width = channels(graph, source)
        value = source
        for step in chain:
            part = _cut(op_of(graph, step), slice(start, start + width))
            value = last = insert(graph, last, f"{step.name}_part", part, value)
        ends.append(value)
        start += width
    end = op_of(graph, chain[-1])
    if isinstance(end, ops.Conv) and end.groups == 1:
        joined = _sum(graph, ends, last, end)
    else:
        joined = insert(graph, last, f"{chain[-1].name}_joined", ops.Concat(), *ends)
    chain[-1].replace_all_uses_with(joined)
    for step in (*reversed(chain), concat):
        graph.graph.erase_node(step)


def _sum(graph: fx.GraphModule, ends: list[fx.Node], last: fx.Node, conv: ops.Conv) -> fx.Node:
    """The bias counts once."""
    total = ends[0]
    first = op_of(graph, total)
    assert isinstance(first, ops.Conv)
    first.bias = conv.bias
    for end in ends[1:]:
        total = last = insert(graph, last, f"{end.name}_sum", ops.Add(), total, end)
    return total


def _cut(op: nn.Module | None, part: slice) -> nn.Module:
    """``op`` for a part of the channels it reads; a dense convolution without its bias."""
    if isinstance(op, ops.AvgPool):
        return ops.AvgPool(op.factor)
    if isinstance(op, ops.PReLU):
        return ops.PReLU(op.slope[part].clone())
    if isinstance(op, ops.Affine):
        return ops.Affine(op.scale[part].clone(), op.shift[part].clone())
    assert isinstance(op, ops.Conv)
    window = (op.stride, op.padding, op.dilation)
    if op.groups == 1:
        return ops.Conv(op.weight[:, part].clone(), None, *window)
    bias = None if op.bias is None else op.bias[part].clone()
    return ops.Conv(op.weight[part].clone(), bias, *window, groups=part.stop - part.start)
