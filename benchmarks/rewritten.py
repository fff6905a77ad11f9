"""The graph an artifact was written from, so that its work can be counted before the writer touched it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from lightseg.benchmarks.counting.cost import Cost
from lightseg.benchmarks.counting.model import count_called
from lightseg.export.graph.capture import capture
from lightseg.export.graph.compose import Output, append_head, bake_preprocess
from lightseg.export.rewrites import rewrite
from lightseg.export.targets import find_target
from lightseg.zoo import create_model

if TYPE_CHECKING:
    from torch import fx

    from lightseg.export.artifact import Artifact


def count_rewritten(artifact: Artifact) -> Cost:
    """The cost of the graph ``artifact`` was written from; weights do not matter to it, so random ones serve."""
    model = create_model(artifact.model, "random")
    graph = capture(model, *artifact.size, model.spec.multiple)
    append_head(graph, model.spec, cast(Output, artifact.output))
    rewrite(graph, find_target(artifact.target).rewrites())
    if artifact.baked:
        bake_preprocess(graph, model.weights.preprocess)
    height, width = artifact.size
    baked, plain = torch.empty(1, height, width, 3, dtype=torch.uint8), torch.empty(1, 3, height, width)
    return count_graph(graph, baked if artifact.baked else plain)


def count_graph(graph: fx.GraphModule, image: Tensor) -> Cost:
    """The cost of a rewritten graph in float32, for inputs like ``image``. The graph itself is left as it is."""
    return count_called(copy.deepcopy(graph).float(), image, "rewritten graph")
