"""A batch norm that cannot be folded where it stands, moved to where it can."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of, sole_user


def push_affine(graph: fx.GraphModule) -> int:
    """scale · f(x) + shift becomes f(scale · x + shift) for f that mixes pixels but not channels.

    Bilinear weights and averages sum to one, so scale and shift pass through upsampling and pooling; a concatenation
    takes them in parts, a sum takes the scale on both sides and the shift on one. Each step is taken only where a
    convolution (or another affine) at the end of the way swallows it, or where it leaves fewer pixels to scale.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        affine = op_of(graph, node)
        if not isinstance(affine, ops.Affine):
            continue
        producer = node.args[0]
        if not sole_user(producer, node):
            continue
        if _push(graph, node, affine, producer):
            node.replace_all_uses_with(producer)
            graph.graph.erase_node(node)
            changed += 1
    return changed


def _push(graph: fx.GraphModule, node: fx.Node, affine: ops.Affine, producer: fx.Node) -> bool:
    """Move ``affine`` in front of ``producer``; False where that brings nothing."""
    op, scale, shift = op_of(graph, producer), affine.scale, affine.shift
    if isinstance(op, ops.Affine):
        op.scale, op.shift = op.scale * scale, op.shift * scale + shift
        return True
    if isinstance(op, ops.Upsample) or (isinstance(op, ops.AvgPool) and absorbs(graph, producer.args[0], producer)):
        _before(graph, producer, 0, scale, shift)
        return True
    if isinstance(op, ops.Permute) and absorbs(graph, producer.args[0], producer):
        back = torch.argsort(op.index)
        _before(graph, producer, 0, scale[back], shift[back])
        return True
    if isinstance(op, ops.Concat):
        return _through_concat(graph, producer, scale, shift)
    return isinstance(op, ops.Add) and _through_add(graph, producer, scale, shift)


def _through_concat(graph: fx.GraphModule, concat: fx.Node, scale: Tensor, shift: Tensor) -> bool:
    able = [absorbs(graph, source, concat) for source in concat.args]
    if not any(able):
        return False
    start = 0
    for position, source in enumerate(concat.args):
        width = channels(graph, source)
        part = slice(start, start + width)
        _before(graph, concat, position, scale[part].clone(), shift[part].clone())
        start += width
    return True


def _through_add(graph: fx.GraphModule, add: fx.Node, scale: Tensor, shift: Tensor) -> bool:
    able = [absorbs(graph, source, add) for source in add.args]
    if not any(able):
        return False
    swallows = able.index(True)
    for position in range(2):
        _before(graph, add, position, scale.clone(), shift if position == swallows else torch.zeros_like(shift))
    return True


def _before(graph: fx.GraphModule, node: fx.Node, position: int, scale: Tensor, shift: Tensor) -> None:
    if (scale == 1).all() and not shift.any():
        return
    source = node.args[position]
    assert isinstance(source, fx.Node)
    moved = insert(graph, source, f"{node.name}_affine", ops.Affine(scale, shift), source)
    node.args = (*node.args[:position], moved, *node.args[position + 1 :])


CONVOLUTIONS = (ops.Conv, ops.Deconv)


def absorbs(
    graph: fx.GraphModule, value: object, user: fx.Node, by: tuple[type, ...] = (*CONVOLUTIONS, ops.Affine)
) -> bool:
    """Whether an affine put on ``value``, for ``user`` alone, ends up in an operation ``by`` whose type is listed."""
    if not isinstance(value, fx.Node) or not sole_user(value, user):
        return False
    op = op_of(graph, value)
    if isinstance(op, ops.Upsample | ops.AvgPool | ops.Permute):
        return absorbs(graph, value.args[0], value, by)
    if isinstance(op, ops.Concat):
        return all(absorbs(graph, source, value, by) for source in value.args)
    return isinstance(op, by)


def channels(graph: fx.GraphModule, value: object) -> int:
    """Number of channels of a value, from the parameters in front of it."""
    assert isinstance(value, fx.Node)
    op = op_of(graph, value)
    if op is None:
        return int(graph.meta["input_shape"][1])
    if isinstance(op, ops.Conv):
        return op.weight.shape[0]
    if isinstance(op, ops.Deconv):
        return op.weight.shape[1]
    if isinstance(op, ops.Concat):
        return sum(channels(graph, source) for source in value.args)
    if isinstance(op, ops.MaxChannel):
        return 1
    if isinstance(op, ops.FirstChannels):
        return op.count
    if isinstance(op, ops.ChannelsToColumns):
        return op.channels
    if isinstance(op, ops.DepthToSpace):
        return channels(graph, value.args[0]) // op.block**2
    if isinstance(op, ops.FromImage):
        return 3
    return max(channels(graph, source) for source in value.args)
