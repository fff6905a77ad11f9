"""A gate of one channel times a map of a few, as a gate of that many equal channels."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of, sole_user
from lightseg.export.rewrites.push_affine import channels

MOST_CHANNELS = 4
"""With more, computing the copies costs more than one loop a pixel."""

CHANNELWISE = (ops.Affine, ops.Abs, ops.Sigmoid, ops.PReLU, ops.Positives, ops.Negatives)


def widen_gate(graph: fx.GraphModule) -> int:
    """convolution to one channel → … → product becomes the same with the product's number of channels.

    Two maps of one shape multiply in one long loop; a map and one channel take a short loop for every pixel.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        if not isinstance(op_of(graph, node), ops.Mul) or node.args[0] is node.args[1]:
            continue
        for gate, value in (node.args, node.args[::-1]):
            assert isinstance(gate, fx.Node) and isinstance(value, fx.Node)
            chain = _chain(graph, gate, node)
            if chain and 1 < channels(graph, value) <= MOST_CHANNELS:
                for step in chain:
                    _widen(op_of(graph, step), channels(graph, value))
                changed += 1
                break
    return changed


def _chain(graph: fx.GraphModule, gate: fx.Node, reader: fx.Node) -> list[fx.Node]:
    """From ``gate`` back to the convolution to one channel; empty where something else is in the way or reads it."""
    chain: list[fx.Node] = []
    while sole_user(gate, reader):
        op = op_of(graph, gate)
        chain.append(gate)
        if isinstance(op, ops.Conv):
            return chain if op.weight.shape[0] == 1 else []
        if not isinstance(op, CHANNELWISE):
            break
        gate, reader = gate.args[0], gate  # type: ignore[assignment]
    return []


def _widen(op: object, width: int) -> None:
    if isinstance(op, ops.Conv):
        op.weight = op.weight.repeat(width, 1, 1, 1)
        op.bias = None if op.bias is None else op.bias.repeat(width)
    elif isinstance(op, ops.Affine):
        op.scale, op.shift = op.scale.repeat(width), op.shift.repeat(width)
    elif isinstance(op, ops.PReLU):
        op.slope = op.slope.repeat(width)
