"""The quantised graph in PyTorch as the reference of its file: what an exact integer machine would answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from lightseg.export.answers import Array, Distance, distance, prepared
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise
from lightseg.export.reference import Reference
from lightseg.images import Photo
from lightseg.predict import mask_from_logits
from lightseg.spec import Labels, Preprocess

JITTER = 1e-3
"""Parts of a step by which an integer kernel's result may differ before it is rounded: float32 multipliers, fixed-point
multipliers, sums in another order. Where that crosses the middle between two steps, the result is one step off."""
SEEDS = 3


def as_input(photo: Photo, preprocess: Preprocess, baked: bool) -> Tensor:
    """What a graph takes: 1×H×W×3 uint8 where the preprocessing is inside, else 1×3×H×W float32."""
    return torch.from_numpy(photo[None].copy()) if baked else torch.from_numpy(prepared(photo, preprocess))


class SimulatedReference(Reference):
    """The float64 answers of a quantised graph in place of the network's.

    What rounding alone may do is measured: the same graph with every value moved by up to `JITTER` steps before it is
    quantised, the largest of `SEEDS` trials.
    """

    name = "torch float64 with the int8 grids simulated"

    def __init__(self, whole: Reference, graph: fx.GraphModule, baked: bool) -> None:
        self.model, self.size, self.probes = whole.model, whole.size, whole.probes
        self.labels, self.preprocess, self.graph = whole.labels, whole.preprocess, graph
        self.logits, self._int8 = {}, {}
        trials = [_Jittered(graph, seed) for seed in range(SEEDS)]
        with torch.inference_mode():
            for name, image in self.probes.items():
                x = as_input(image, self.preprocess, baked)
                x = x if baked else x.double()
                self.logits[name] = graph(x).numpy()
                self._int8[name] = _largest([trial.run(x).numpy() for trial in trials], self.logits[name])

    def for_output(self, output: str) -> Reference:
        return self

    def distances(self, precision: str) -> dict[str, Distance]:
        return self._int8


def wavering(graph: fx.GraphModule, inputs: Sequence[Tensor], labels: Labels) -> float:
    """The share of pixels whose class rounding alone moves (values shifted by up to `JITTER` steps), on the worst of
    ``inputs``, which have the element type of ``graph``."""
    shaken = _Jittered(graph, 0)
    with torch.inference_mode():
        pairs = [[mask_from_logits(f(x).float().numpy(), labels) for f in (graph, shaken.run)] for x in inputs]
    return max(float((still != moved).mean()) for still, moved in pairs)


def _largest(answers: list[Array], want: Array) -> Distance:
    seen = [distance(got, want) for got in answers]
    return Distance(float(np.max([d.largest for d in seen])), float(np.max([d.mean for d in seen])))


class _Jittered(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, seed: int) -> None:
        super().__init__(graph)
        self.graph_module = graph
        self.random = torch.Generator().manual_seed(seed)

    def run_node(self, n: fx.Node) -> Any:
        op = op_of(self.graph_module, n)
        if not isinstance(op, FakeQuantise):
            return super().run_node(n)
        x = self.env[n.args[0]]  # type: ignore[index]
        noise = 2 * torch.rand(x.shape, generator=self.random, dtype=x.dtype) - 1
        return op(x + JITTER * op.scale * noise)
