"""Evening out the channels changes no answer, and does even them out."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.quantization.equalise import equalise_channels, tied
from lightseg.export.quantization.ranges import Seen, watch
from lightseg.export.rewrites import rewrite
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS
from tests.export.graph_builder import Builder
from tests.export.subjects import graph_of, images

SLOW = partial(pytest.param, marks=pytest.mark.slow)
INT8 = [t.name for t in TARGETS.values() if t.int8]


def seen_on(graph: fx.GraphModule, x: torch.Tensor) -> dict[str, Seen]:
    return watch(copy.deepcopy(graph).float(), [x.float()])


@pytest.mark.parametrize("target", INT8)
@pytest.mark.parametrize("name", [n if MODELS[n].task == "portrait" else SLOW(n) for n in MODELS])
def test_no_bit_of_the_answer_changes(name: str, target: str) -> None:
    """All scales are powers of two."""
    graph = graph_of(name)
    rewrite(graph, TARGETS[target].rewrites())
    x, before = images(name), graph(images(name))
    assert equalise_channels(graph, seen_on(graph, x), outputs=True) > 0
    assert torch.equal(graph(x), before)


def test_channels_of_different_size_become_alike() -> None:
    b = Builder((1, 3, 8, 8))
    first, second = b.conv(3, 8, bias=False), b.conv(8, 4)
    first.weight = first.weight * torch.logspace(-3, 3, 8, dtype=torch.float64)[:, None, None, None]
    graph = b.finish(b.call(second, b.call(b.prelu(8), b.call(first, b.image))))
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def spread() -> float:
        peak = seen_on(graph, x)["conv"].largest
        return float(peak.max() / peak.min())

    wide, before = spread(), graph(x)
    equalise_channels(graph, seen_on(graph, x), outputs=False)
    assert spread() < 0.1 * wide
    assert torch.equal(graph(x), before)


def test_what_a_softmax_reads_is_left_alone() -> None:
    b = Builder((1, 3, 8, 8))
    value = b.call(b.conv(3, 4), b.image)
    graph = b.finish(b.call(ops.Softmax(), value))
    seen = seen_on(graph, torch.ones(1, 3, 8, 8))
    classes = tied(graph, {name: len(v.largest) for name, v in seen.items()})
    (node,) = (n for n, op in op_nodes(graph) if isinstance(op, ops.Conv))
    assert classes.of(node).tolist() == [0] * 4
    assert equalise_channels(graph, seen, outputs=False) == 0
