"""A concatenation of what convolutions return, as their sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of, sole_user
from lightseg.export.rewrites.even_channels import MULTIPLE


def concat_as_sum(graph: fx.GraphModule) -> int:
    """concat(f(x), g(y)) becomes f′(x) + g′(y), of convolutions that return zeros for each other's channels.

    ONNX Runtime leaves its own layout for a convolution to 30 channels, no multiple of four, and for a concatenation of
    30 and 30. One to 60 and a sum stay inside, and the sum is folded into the convolution. What is added to the
    concatenation is added to one convolution first, so that each of the sums is folded into one. SINet's 24 and 24
    stay: there the sum is more work and no time less.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        if not isinstance(op_of(graph, node), ops.Concat) or not node.users:
            continue
        convs = _convolutions(graph, node)
        if len(convs) == 2 and _pays([conv.weight for conv in convs]):
            _widen(convs)
            _add(graph, node)
            changed += 1
    return changed


def _convolutions(graph: fx.GraphModule, concat: fx.Node) -> list[ops.Conv]:
    """The dense ones that ``concat`` alone reads, each once; none where it reads anything else."""
    found = []
    for source in concat.all_input_nodes:
        op = op_of(graph, source)
        if not isinstance(op, ops.Conv) or op.groups != 1 or not sole_user(source, concat):
            return []
        found.append(op)
    return found if len(found) == len(concat.args) else []


def _pays(weights: list[Tensor]) -> bool:
    """Outside the layout before, inside with it; and no more than 1×1 convolutions, which cost less than leaving it."""
    widths = [len(weight) for weight in weights]
    pointwise = all(weight.shape[2:] == (1, 1) for weight in weights)
    return pointwise and any(width % MULTIPLE for width in widths) and sum(widths) % MULTIPLE == 0


def _widen(convs: list[ops.Conv]) -> None:
    """Let each return all channels, those of the others zero. The biases are one."""
    total, start = sum(len(conv.weight) for conv in convs), 0
    bias = torch.cat([conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias for conv in convs])
    for conv in convs:
        width = len(conv.weight)
        conv.weight = F.pad(conv.weight, (0, 0) * 3 + (start, total - start - width))
        conv.bias = bias if start == 0 and bias.any() else None
        start += width


def _add(graph: fx.GraphModule, concat: fx.Node) -> None:
    """In place of ``concat``, and of the addition behind it where that alone reads it."""
    first, second = concat.args
    user = next(iter(concat.users))
    place, total = concat, first
    if len(concat.users) == 1 and isinstance(op_of(graph, user), ops.Add) and user.args[0] is not user.args[1]:
        other = user.args[0] if user.args[1] is concat else user.args[1]
        place = user
        total = insert(graph, user, f"{concat.name}_begun", ops.Add(), other, first)  # type: ignore[arg-type]
    end = insert(graph, total if place is user else place, f"{concat.name}_sum", ops.Add(), total, second)  # type: ignore[arg-type]
    place.replace_all_uses_with(end)
    for node in dict.fromkeys((place, concat)):
        graph.graph.erase_node(node)
