"""Channels of zeros that fill a runtime's vectors: exact, and only where nothing else reads them."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.rewrites import fill_packing, rewrite
from lightseg.export.rewrites.fill_lanes import PACKED, fill
from lightseg.export.targets.ncnn import NCNN
from tests.export.random_graphs import Builder
from tests.export.subjects import graph_of, images, relative
from tests.export.written import noise


def _chain(width: int) -> fx.GraphModule:
    """dense → depthwise → PReLU → its own sum → dense, all of ``width`` channels inside."""
    b = Builder((1, 3, 9, 7), seed=1)
    value = b.call(b.conv(width, width, (3, 3), groups=width), b.call(b.conv(3, width), b.image))
    value = b.call(ops.PReLU(torch.linspace(-2, 2, width)), value)
    value = b.call(ops.Affine(torch.linspace(1, 2, width), torch.linspace(-1, 1, width)), value)
    return b.finish(b.call(b.conv(width, 5), b.call(ops.Add(), value, value)))


@pytest.mark.parametrize(("width", "filled"), [(18, 24), (3, 8), (8, 8), (16, 16)])
def test_channels_fill_the_vectors_exactly(width: int, filled: int) -> None:
    graph, x = _chain(width), noise((1, 3, 9, 7))
    want = graph(x)
    assert fill(graph, PACKED) == (width != filled)
    depthwise = next(op for _, op in op_nodes(graph) if isinstance(op, ops.Conv) and op.is_depthwise)
    assert depthwise.groups == depthwise.weight.shape[0] == filled
    assert relative(graph(x), want) < 1e-14
    assert fill(graph, PACKED) == 0


def test_channels_that_others_read_stay() -> None:
    """A concatenation, or the output, would see the added ones."""
    b = Builder((1, 3, 9, 7), seed=1)
    value = b.call(b.conv(6, 6, (3, 3), groups=6), b.call(b.conv(3, 6), b.image))
    assert fill(b.finish(b.call(ops.Concat(), value, b.call(b.conv(6, 2), value))), PACKED) == 0
    b = Builder((1, 3, 9, 7), seed=1)
    assert fill(b.finish(b.call(b.conv(6, 6, (3, 3), groups=6), b.call(b.conv(3, 6), b.image))), PACKED) == 0


def test_extremec3net_is_filled_and_the_same() -> None:
    graph, x = graph_of("extremec3net"), images("extremec3net")
    rewrite(graph, [rule for rule in NCNN.rewrites() if rule is not fill_packing])
    want = graph(x)
    assert fill_packing(graph) > 0
    assert relative(graph(x), want) < 1e-12
    assert not any(rewrite(graph, NCNN.rewrites()).values()), "nothing undoes it"
