"""A channel permutation, moved forward until a dense convolution takes it into its weights."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of


def push_permute(graph: fx.GraphModule) -> int:
    """permute → f becomes f → permute for f that works channel by channel, and nothing for a dense convolution.

    Taken only where every reader of the permutation can do one or the other; so no memory is shuffled at inference.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        permute = op_of(graph, node)
        if not isinstance(permute, ops.Permute) or not node.users:
            continue
        readers = list(node.users)
        if not all(_takes(op_of(graph, reader)) for reader in readers):
            continue
        for reader in readers:
            _pass(graph, node, reader, permute.index)
        graph.graph.erase_node(node)
        changed += 1
    return changed + sum(_through_sum(graph, node) for node in list(graph.graph.nodes))


def _through_sum(graph: fx.GraphModule, node: fx.Node) -> bool:
    """permute(x) + permute(y) with one order becomes permute(x + y)."""
    if not isinstance(op_of(graph, node), ops.Add):
        return False
    permutes = [op_of(graph, source) for source in node.args]  # type: ignore[arg-type]
    if not all(isinstance(p, ops.Permute) and torch.equal(p.index, permutes[0].index) for p in permutes):  # type: ignore[union-attr,arg-type]
        return False
    users, index = list(node.users), permutes[0].index  # type: ignore[union-attr]
    node.args = tuple(source.args[0] for source in node.args)  # type: ignore[union-attr]
    moved = insert(graph, node, f"{node.name}_permute", ops.Permute(index), node)  # type: ignore[arg-type]
    for user in users:
        user.replace_input_with(node, moved)
    return True


def _takes(op: object) -> bool:
    if isinstance(op, ops.Conv):
        return op.groups == 1 or (op.is_depthwise and op.weight.shape[0] == op.groups)
    return isinstance(op, ops.AvgPool | ops.Upsample | ops.PReLU | ops.Positives | ops.Negatives | ops.Affine)


def _pass(graph: fx.GraphModule, node: fx.Node, reader: fx.Node, index: Tensor) -> None:
    op = op_of(graph, reader)
    back = torch.argsort(index)
    reader.replace_input_with(node, node.args[0])  # type: ignore[arg-type]
    if isinstance(op, ops.Conv) and op.groups == 1:
        op.weight = op.weight[:, back]
        return
    if isinstance(op, ops.Conv):
        op.weight = op.weight[back]
        op.bias = None if op.bias is None else op.bias[back]
    elif isinstance(op, ops.PReLU):
        op.slope = op.slope[back]
    elif isinstance(op, ops.Affine):
        op.scale, op.shift = op.scale[back], op.shift[back]
    users = list(reader.users)
    moved = insert(graph, reader, f"{reader.name}_permute", ops.Permute(index), reader)
    for user in users:
        user.replace_input_with(reader, moved)
