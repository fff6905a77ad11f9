"""Which convolutions stay in float: as few as the measured loss allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, fx

from lightseg.export.quantization.quantise import Grids, convolutions, quantise
from lightseg.export.quantization.scheme import Scheme

Loss = Callable[[fx.GraphModule], float]
"""Points a float32 graph loses."""


def by_harm(
    graph: fx.GraphModule, grids: Grids, scheme: Scheme, images: Sequence[Tensor], floats: Sequence[str] = ()
) -> list[str]:
    """Convolutions but for ``floats`` by the squared error the logits get when each alone is int8, the worst first."""
    names = [name for name in convolutions(graph) if name not in floats]
    exact = _answers(graph, images)
    harm = {}
    for name in names:
        alone = quantise(graph, grids, scheme, [*floats, *(other for other in names if other != name)]).float()
        harm[name] = float(np.mean([((a - b) ** 2).mean() for a, b in zip(_answers(alone, images), exact)]))
    return sorted(names, key=lambda name: -harm[name])


def fewest_floats(
    graph: fx.GraphModule,
    grids: Grids,
    scheme: Scheme,
    images: Sequence[Tensor],
    loss: Loss,
    limit: float,
    floats: Sequence[str] = (),
) -> list[str]:
    """``floats``, and the shortest head of the list of `by_harm` that leaves the measured ``loss`` within ``limit``, by
    bisection.

    None of them where the rest in int8 is good enough; all of them where nothing is.
    """

    def good(count: int) -> bool:
        return loss(quantise(graph, grids, scheme, [*floats, *order[:count]]).float()) <= limit

    order: list[str] = []
    if good(0):
        return list(floats)
    order = by_harm(graph, grids, scheme, images, floats)
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return [*floats, *order[:high]]


def _answers(graph: fx.GraphModule, images: Sequence[Tensor]) -> list[Tensor]:
    single = graph.float() if next(graph.buffers()).dtype == torch.float32 else _float32(graph)
    with torch.inference_mode():
        return [single(x) for x in images]


def _float32(graph: fx.GraphModule) -> fx.GraphModule:
    import copy

    return copy.deepcopy(graph).float()
