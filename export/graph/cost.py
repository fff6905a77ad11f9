"""What one run of a graph costs, by counting: so that a rewrite can be judged before any runtime is asked.

It stands next to the operations because a new one must say here what it costs, and it needs no export or file:
a millisecond a graph. The benchmarks count files and PyTorch programs on their own, which keeps the two independent.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from math import prod

from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.shapes import Shape, shapes

VIEWS = (ops.ColumnsToChannels, ops.ChannelsToColumns)
"""Only targets whose channels come last have these, and there they move nothing."""
TRANSPOSES = (ops.Permute, ops.FromImage)


@dataclass(frozen=True)
class Cost:
    """Counts of one graph, or of what a change added (then some are negative). MACs include those on zero padding."""

    ops: Counter[str]
    """Operations by kind; none has count zero."""
    macs: int
    """Multiply-accumulates of convolutions, plain, grouped and transposed."""
    bytes_moved: int
    """Every operation reads its inputs and parameters once and writes its output once; no cache, no fusion."""
    transposes: int
    """Operations that only put values elsewhere: channel permutations, and the image's layout."""

    @property
    def count(self) -> int:
        return sum(self.ops.values())

    def __add__(self, other: Cost) -> Cost:
        return self._combined(other, 1)

    def __sub__(self, other: Cost) -> Cost:
        return self._combined(other, -1)

    def _combined(self, other: Cost, sign: int) -> Cost:
        kinds = {k: self.ops[k] + sign * other.ops[k] for k in sorted({*self.ops, *other.ops})}
        return Cost(
            Counter({k: n for k, n in kinds.items() if n}),
            self.macs + sign * other.macs,
            self.bytes_moved + sign * other.bytes_moved,
            self.transposes + sign * other.transposes,
        )


NOTHING = Cost(Counter(), 0, 0, 0)


def cost(graph: fx.GraphModule, input_shape: Shape) -> Cost:
    """The cost of a float32 run for ``input_shape`` (N×H×W×3 where the graph takes images) of what the result needs."""
    size = shapes(graph, input_shape)
    total = NOTHING
    for node in _needed(graph):
        op = op_of(graph, node)
        if op is not None:
            read = sum(_bytes(graph, source, size[source]) for source in node.all_input_nodes)
            total += _cost(op, read, _bytes(graph, node, size[node]), size[node.args[0]], size[node])  # type: ignore[index]
    return total


def _needed(graph: fx.GraphModule) -> list[fx.Node]:
    """The nodes the result depends on, in order: a rewrite may leave dead ones behind for a while."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        if node.op == "output" or node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.graph.nodes if node in needed]


def _bytes(graph: fx.GraphModule, node: fx.Node, shape: Shape) -> int:
    small = isinstance(op_of(graph, node), ops.ArgMax | ops.Positive)
    images = node.op == "placeholder" and any(isinstance(op_of(graph, u), ops.FromImage) for u in node.users)
    return prod(shape) * (1 if small or images else 4)


def _cost(op: nn.Module, read: int, written: int, given: Shape, made: Shape) -> Cost:
    if isinstance(op, VIEWS):
        return NOTHING
    parameters = 4 * sum(b.numel() for b in op.buffers())
    moved = _passes(op) * (read + written) + parameters
    return Cost(Counter([_kind(op)]), _macs(op, given, made), moved, int(isinstance(op, TRANSPOSES)))


def _passes(op: nn.Module) -> int:
    """Formats know no affine: it is a multiplication, an addition, or both."""
    if isinstance(op, ops.Affine):
        return max(1, int((op.scale != 1).any()) + int(op.shift.any()))
    return 1


def _macs(op: nn.Module, given: Shape, made: Shape) -> int:
    if isinstance(op, ops.Conv):
        return prod(made) * prod(op.weight.shape[1:])
    return prod(given) * prod(op.weight.shape[1:]) if isinstance(op, ops.Deconv) else 0


def _kind(op: nn.Module) -> str:
    """The operation's name in words; convolutions told apart by their groups."""
    if isinstance(op, ops.Conv):
        return "depthwise conv" if op.is_depthwise else "grouped conv" if op.groups > 1 else "conv"
    name = type(op).__name__
    return name if isinstance(op, ops.PReLU) else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
