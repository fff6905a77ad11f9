"""A float graph as one whose convolutions compute with eight bits."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import add_op, finish, op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.quantization.scheme import Scheme

Grids = Mapping[str, FakeQuantise]
"""By the name of the node whose value they are for."""


def convolutions(graph: fx.GraphModule) -> list[str]:
    """The names of the nodes that can be int8, in order."""
    return [n.name for n in graph.graph.nodes if type(op_of(graph, n)) is ops.Conv]


def values_to_watch(graph: fx.GraphModule, scheme: Scheme) -> list[str]:
    """The nodes whose values may need a grid."""
    found: dict[str, None] = {}
    for node in graph.graph.nodes:
        if type(op_of(graph, node)) is ops.Conv:
            found |= dict.fromkeys([node.args[0].name] + [node.name] * scheme.outputs)
    return list(found)


def with_feeders(graph: fx.GraphModule, floats: Collection[str]) -> tuple[str, ...]:
    """``floats``, and every convolution whose int8 result one of them reads directly while handing its own to an int8
    convolution. ONNX Runtime quantises the weights of a float convolution that stands between two such values, unasked.
    """
    kept, nodes = dict.fromkeys(floats), [n for n in graph.graph.nodes if type(op_of(graph, n)) is ops.Conv]
    for node in reversed(nodes):
        source = node.args[0]
        handed = any(user in nodes and user.name not in kept for user in node.users)
        if node.name in kept and handed and source in nodes:
            kept[source.name] = None
    return tuple(kept)


def quantise(graph: fx.GraphModule, grids: Grids, scheme: Scheme, floats: Collection[str] = ()) -> fx.GraphModule:
    """A copy of ``graph`` in which every convolution but those named in ``floats`` is a `QuantisedConv`.

    Each reads a `FakeQuantise` of its input; convolutions that read one value share it, and whatever else reads that
    value keeps it in float. With ``scheme.outputs`` what a convolution returns is quantised for all that read it.
    """
    changed = copy.deepcopy(graph)
    rounded: dict[fx.Node, fx.Node] = {}
    for node in list(changed.graph.nodes):
        op = op_of(changed, node)
        if type(op) is not ops.Conv or node.name in floats:
            continue
        source = node.args[0]
        if not isinstance(op_of(changed, source), FakeQuantise):
            if source not in rounded:
                rounded[source] = _rounded(changed, source, grids[source.name])
            node.args = (rounded[source],)
        grid = op_of(changed, node.args[0])
        assert isinstance(grid, FakeQuantise)
        setattr(changed, str(node.target), QuantisedConv(op, grid.scale))
        if scheme.outputs:
            after = _rounded(changed, node, grids[node.name])
            node.replace_all_uses_with(after, delete_user_cb=lambda user: user is not after)  # noqa: B023
    finish(changed)
    return changed


def _rounded(graph: fx.GraphModule, value: fx.Node, grid: FakeQuantise) -> fx.Node:
    with graph.graph.inserting_after(value):
        return graph.graph.call_module(add_op(graph, f"{value.name}_int8", copy.deepcopy(grid)), (value,))
