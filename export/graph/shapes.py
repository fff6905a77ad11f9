"""The shape of every value of a graph, without computing it."""

from __future__ import annotations

import copy

import torch
from torch import fx
from torch.fx.passes.shape_prop import ShapeProp

Shape = tuple[int, ...]


def shapes(graph: fx.GraphModule, input_shape: Shape, dtype: torch.dtype = torch.float64) -> dict[str, Shape]:
    """Node name → shape, for an input of ``input_shape``."""
    shadow = copy.deepcopy(graph).to("meta")
    ShapeProp(shadow).propagate(torch.empty(input_shape, device="meta", dtype=dtype))
    return {n.name: tuple(n.meta["tensor_meta"].shape) for n in shadow.graph.nodes if "tensor_meta" in n.meta}
