"""What keeps ONNX Runtime in its own layout is exact: sums for concatenations, a PReLU that takes its norm along."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.rewrites import blend_prelu, concat_as_sum, rewrite
from tests.export.graph_builder import Builder
from tests.export.subjects import relative

EXACT = 1e-12


def _kinds(graph: fx.GraphModule) -> list[type]:
    return [type(op) for _, op in op_nodes(graph)]


def _noise() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _joined(b: Builder, *widths: int, kernel: tuple[int, int] = (1, 1)) -> fx.Node:
    parts = [b.call(b.conv(3, width, kernel, bias=i == 1), b.image) for i, width in enumerate(widths)]
    return b.call(ops.Concat(), *parts)


@pytest.mark.parametrize("residual", ["none", "before", "behind", "twice"])
def test_a_concatenation_of_convolutions_is_their_sum(residual: str) -> None:
    b = Builder((1, 3, 8, 8))
    joined, other = _joined(b, 5, 7), b.call(b.conv(3, 12), b.image)
    sources = {"none": [], "before": [other, joined], "behind": [joined, other], "twice": [joined, joined]}[residual]
    graph = b.finish(b.call(b.prelu(12), b.call(ops.Add(), *sources) if sources else joined))
    want = graph(_noise())
    assert rewrite(graph, (concat_as_sum,)) == {"concat_as_sum": 1}
    assert relative(graph(_noise()), want) <= EXACT
    assert ops.Concat not in _kinds(graph) and _kinds(graph).count(ops.Add) == (1 if residual == "none" else 2)


def test_sums_are_one_behind_the_other() -> None:
    """Each then has a convolution of its own to be folded into."""
    b = Builder((1, 3, 8, 8))
    graph = b.finish(b.call(ops.Add(), b.call(b.conv(3, 12), b.image), _joined(b, 5, 7)))
    rewrite(graph, (concat_as_sum,))
    for node, op in op_nodes(graph):
        assert not isinstance(op, ops.Add) or any("conv" in str(source) for source in node.args)


@pytest.mark.parametrize("widths", [(24, 24), (5, 6), (5, 7, 4)])
def test_other_concatenations_stay(widths: tuple[int, ...]) -> None:
    """Fours are in the layout by themselves, eleven channels could not be, and of three the sum is too much work."""
    b = Builder((1, 3, 8, 8))
    assert rewrite(b.finish(_joined(b, *widths)), (concat_as_sum,)) == {"concat_as_sum": 0}


def test_what_others_read_or_is_large_stays() -> None:
    b = Builder((1, 3, 8, 8))
    first, second = b.call(b.conv(3, 5), b.image), b.call(b.conv(3, 7), b.image)
    graph = b.finish(b.call(ops.Concat(), b.call(ops.Concat(), first, second), first))
    assert rewrite(graph, (concat_as_sum,)) == {"concat_as_sum": 0}
    b = Builder((1, 3, 8, 8))
    assert rewrite(b.finish(_joined(b, 5, 7, kernel=(3, 3))), (concat_as_sum,)) == {"concat_as_sum": 0}


SLOPES = torch.tensor([-3.5, 0.0, 0.25, 1.0, 1.5, 4.5], dtype=torch.float64)


def test_a_blended_prelu_takes_its_norm_along() -> None:
    b = Builder((1, 3, 8, 8))
    pooled = b.call(ops.AvgPool(2), b.call(b.conv(3, 6), b.image))
    normed = b.call(b.affine(6), pooled)
    graph = b.finish(b.call(ops.Add(), b.call(ops.PReLU(SLOPES), normed), pooled))
    want = graph(_noise())
    rewrite(graph, (blend_prelu,))
    assert relative(graph(_noise()), want) <= EXACT
    assert ops.Affine not in _kinds(graph)


def test_a_norm_that_others_read_stays_for_them() -> None:
    b = Builder((1, 3, 8, 8))
    normed = b.call(b.affine(6), b.call(ops.AvgPool(2), b.call(b.conv(3, 6), b.image)))
    graph = b.finish(b.call(ops.Add(), b.call(ops.PReLU(SLOPES), normed), normed))
    want = graph(_noise())
    rewrite(graph, (blend_prelu,))
    assert relative(graph(_noise()), want) <= EXACT
    assert _kinds(graph).count(ops.Affine) == 1


@pytest.mark.parametrize(("reader", "signs"), [("convolution", 0), ("sum", 1)])
def test_a_reader_takes_the_sign_of_steep_slopes(reader: str, signs: int) -> None:
    """A sum cannot, as it would turn its other summand round too; there the difference costs a convolution more."""
    b = Builder((1, 3, 8, 8))
    before = b.call(b.conv(3, 6), b.image)
    blended = b.call(ops.PReLU(SLOPES), before)
    end = b.call(b.conv(6, 4, (3, 3)), blended) if reader == "convolution" else b.call(ops.Add(), blended, before)
    graph = b.finish(end)
    convolutions, want = _kinds(graph).count(ops.Conv), graph(_noise())
    rewrite(graph, (blend_prelu,))
    assert relative(graph(_noise()), want) <= EXACT
    assert _kinds(graph).count(ops.Conv) == convolutions + 2 + signs
