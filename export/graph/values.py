"""Every value of a graph for one image, exact and rounded."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lightseg.export.graph.edit import op_of
from lightseg.export.rounding import RoundedGraph, to_eleven_bits


def exact_values(graph: fx.GraphModule, x: Tensor) -> dict[str, Tensor]:
    """Float64 values by node, for a graph in float64; ``x`` is what the graph takes."""
    values: dict[str, Tensor] = {}
    with torch.inference_mode():
        for node in graph.graph.nodes:
            op = op_of(graph, node)
            if node.op == "placeholder":
                values[node.name] = x
            elif op is not None:
                values[node.name] = op(*(values[source.name] for source in node.args))
    return values


@dataclass(frozen=True)
class Rounded:
    """One value in PyTorch's float32, or with everything cut to float16's eleven bits."""

    node: fx.Node
    chained: Tensor
    """From rounded values."""
    alone: Tensor
    """From exact ones, rounded once."""


def rounded_values(graph: fx.GraphModule, exact: Mapping[str, Tensor], half: bool) -> Iterator[Rounded]:
    """In the order of execution; values nobody reads again are dropped on the way."""
    rounded = RoundedGraph(graph).module if half else copy.deepcopy(graph).float()
    values: dict[fx.Node, Tensor] = {}
    readers = {node: len(node.users) for node in graph.graph.nodes}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = _narrow(exact[node.name], half)
        elif node.op == "call_module":
            op = rounded.get_submodule(str(node.target))
            with torch.inference_mode():
                chained = _narrow(op(*(values[source] for source in node.args)), half)
                alone = _narrow(op(*(_narrow(exact[source.name], half) for source in node.args)), half)
            values[node] = chained
            for source in set(node.args):
                readers[source] -= 1
                if not readers[source]:
                    del values[source]
            yield Rounded(node, chained, alone)


def _narrow(x: Tensor, half: bool) -> Tensor:
    """Images and masks stay what they are."""
    if not x.is_floating_point():
        return x
    return to_eleven_bits(x.float()) if half else x.float()
