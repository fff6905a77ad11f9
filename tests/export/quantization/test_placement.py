"""Which convolutions a target's prices leave in float, and that prices are asked for what the file really holds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.shapes import shapes
from lightseg.export.quantization.placement import better_in_float
from lightseg.export.quantization.quantise import quantise
from lightseg.export.quantization.scheme import Price, Scheme
from tests.export.graph_builder import Builder
from tests.export.random_graphs import STEADY, graphs, sketch

FREE = Price(dense=1, depthwise=1, lanes=1, quantise=0, dequantise=0)
SHAPE = (1, 3, 16, 24)


def block() -> fx.GraphModule:
    """A network's block: pointwise, two depthwise beside each other, PReLU, pointwise, batch norm."""
    b = Builder((1, 16, 8, 8))
    first = b.call(b.conv(16, 24), b.image)
    sides = [b.call(b.prelu(24), b.call(b.conv(24, 24, (3, 3), groups=24), first)) for _ in range(2)]
    joined = b.call(ops.Concat(), *(b.call(b.conv(24, 24), side) for side in sides))
    return b.finish(b.call(b.conv(48, 48, groups=48), joined))


def kinds(graph: fx.GraphModule, names: list[str]) -> Counter[str]:
    found = {n.name: op for n, op in op_nodes(graph) if isinstance(op, ops.Conv)}
    return Counter("dense" if not found[n].is_depthwise else str(found[n].weight[0, 0].numel()) for n in names)


@pytest.mark.parametrize(
    ("price", "floats"),
    [
        (FREE, {"1": 1}),
        (Price(1, 1, 1, 1e9, 1e9), {"dense": 3, "9": 2, "1": 1}),
        (Price(1, 0, 1, 0, 1), {"9": 2, "1": 1}),
        (Price(1, 1, 16, 0, 1), {"9": 2, "1": 1}),
        (Price(1, 1, 8, 0, 1), {"1": 1}),
    ],
    ids=["changes are free", "changes cost all", "depthwise gains nothing", "a vector and a half", "whole vectors"],
)
def test_what_stays_in_float(price: Price, floats: dict[str, int]) -> None:
    graph = block()
    assert kinds(graph, better_in_float(graph, (1, 16, 8, 8), price)) == floats


@settings(STEADY, max_examples=20)
@given(graphs(), st.floats(0.01, 1), st.floats(0, 3))
def test_it_is_never_worse_than_all_or_none(drawn: tuple[list[str], int], gain: float, change: float) -> None:
    graph = sketch(*drawn)
    price = Price(gain, gain / 2, 1, change, change)
    found = cost(graph, better_in_float(graph, SHAPE, price), price)
    norms = [
        n.name
        for n, op in op_nodes(graph)
        if isinstance(op, ops.Conv) and op.is_depthwise and op.weight[0, 0].numel() == 1
    ]
    assert found <= min(0.0, cost(graph, norms, price)) + 1e-6


def cost(graph: fx.GraphModule, floats: list[str], price: Price) -> float:
    """Read from the quantised graph: values that are rounded, values that are read in float, products saved."""
    grids = {n.name: FakeQuantise(0.1, 0) for n in graph.graph.nodes}
    made = quantise(graph, grids, Scheme(outputs=True), floats)
    size = {n: s[0] * s[1] * s[2] * s[3] for n, s in shapes(made, SHAPE).items()}
    int8 = {n for n, op in op_nodes(made) if isinstance(op, QuantisedConv)}
    total = 0.0
    for node, op in op_nodes(made):
        if isinstance(op, QuantisedConv):
            total -= (price.depthwise if op.is_depthwise else price.dense) * size[node] * op.weight[0].numel()
        if isinstance(op, FakeQuantise):
            total += price.quantise * size[node] * (node.all_input_nodes[0] not in int8)
            total += price.dequantise * size[node] * (not int8.issuperset(node.users))
    return total
