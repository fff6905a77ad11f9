"""A per-channel scale that stands alone, moved on through PReLU into the layers behind."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of
from lightseg.export.graph.scale import scale_inputs
from lightseg.export.rewrites.push_affine import absorbs, channels

FURTHEST = 2.0**10
"""No scale, slope or divisor beyond this, so that the values in between stay where float16 can hold them."""


def push_scale(graph: fx.GraphModule) -> int:
    """scale · x + shift → PReLU becomes x + shift/scale → PReLU', and s · x + y → PReLU becomes x + y/s → PReLU'.

    The scale goes into what reads the PReLU. It passes for either sign: PReLU of slope a of s·z is s·PReLU(z) where s
    is positive, and s·a times the PReLU of slope 1/a where it is negative. A scale leaves zero padding zero.
    """
    return sum(_push(graph, node) for node in list(graph.graph.nodes))


def _push(graph: fx.GraphModule, node: fx.Node) -> bool:
    affine = op_of(graph, node)
    if not isinstance(affine, ops.Affine) or (affine.scale == 1).all() or len(node.users) != 1:
        return False
    reader = next(iter(node.users))
    added = _other(graph, reader, node)
    act = reader if added is None else next(iter(reader.users))
    prelu = op_of(graph, act)
    if not isinstance(prelu, ops.PReLU) or not (added is None or _goes_without(graph, affine, reader, added)):
        return False
    slope, factor = _mirrored(prelu.slope, affine.scale)
    if not _moderate(affine.scale, factor) or not all(takes(graph, user) for user in act.users):
        return False
    for user in list(act.users):
        scale_reader(graph, act, user, factor)
    prelu.slope = slope
    if added is not None:
        _divide(graph, reader, added, affine.scale)
    _drop_scale(graph, node, affine)
    return True


def _other(graph: fx.GraphModule, add: fx.Node, node: fx.Node) -> fx.Node | None:
    """What ``add`` adds to ``node``; None where it is no addition of two values that one alone reads."""
    if not isinstance(op_of(graph, add), ops.Add) or len(add.users) != 1 or add.args[0] is add.args[1]:
        return None
    other = add.args[1] if add.args[0] is node else add.args[0]
    assert isinstance(other, fx.Node)
    return other


def _goes_without(graph: fx.GraphModule, affine: ops.Affine, add: fx.Node, other: fx.Node) -> bool:
    """Whether the other summand can be divided for free."""
    return not affine.shift.any() and absorbs(graph, other, add)


def _mirrored(slope: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """b and f of PReLU_a(s · z) = f · PReLU_b(z)."""
    positive = scale > 0
    return torch.where(positive, slope, 1 / slope), torch.where(positive, scale, scale * slope)


def _moderate(*factors: Tensor) -> bool:
    """Neither zero nor far from one."""
    return all(bool(((f.abs() <= FURTHEST) & (f.abs() >= 1 / FURTHEST)).all()) for f in factors)


def takes(graph: fx.GraphModule, user: fx.Node) -> bool:
    """Whether ``user`` can multiply what it reads for free."""
    op = op_of(graph, user)
    if isinstance(op, ops.AvgPool | ops.Upsample):
        return all(takes(graph, reader) for reader in user.users)
    if isinstance(op, ops.Concat):
        return len(user.users) == 1 and isinstance(op_of(graph, next(iter(user.users))), ops.Affine)
    return isinstance(op, ops.Conv | ops.Affine)


def scale_reader(graph: fx.GraphModule, value: fx.Node, user: fx.Node, factor: Tensor) -> None:
    """Make ``user`` return for x what it returned for factor · x."""
    op = op_of(graph, user)
    if isinstance(op, ops.Conv):
        scale_inputs(op, factor)
    elif isinstance(op, ops.Affine):
        op.scale = op.scale * factor
    elif isinstance(op, ops.Concat):
        _scale_parts(graph, value, user, factor)
    else:
        for reader in user.users:
            scale_reader(graph, user, reader, factor)


def _scale_parts(graph: fx.GraphModule, value: fx.Node, concat: fx.Node, factor: Tensor) -> None:
    """``value`` may be there more than once."""
    affine = op_of(graph, next(iter(concat.users)))
    assert isinstance(affine, ops.Affine)
    parts = [factor if v is value else torch.ones(channels(graph, v), dtype=factor.dtype) for v in concat.args]
    affine.scale = affine.scale * torch.cat(parts)


def _divide(graph: fx.GraphModule, add: fx.Node, other: fx.Node, scale: Tensor) -> None:
    divided = insert(graph, other, f"{other.name}_affine", ops.Affine(1 / scale, torch.zeros_like(scale)), other)
    add.replace_input_with(other, divided)


def _drop_scale(graph: fx.GraphModule, node: fx.Node, affine: ops.Affine) -> None:
    if affine.shift.any():
        affine.shift, affine.scale = affine.shift / affine.scale, torch.ones_like(affine.scale)
        return
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    graph.graph.erase_node(node)
