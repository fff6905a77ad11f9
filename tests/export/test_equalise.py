"""Equalised weights: the same bits out, no large weight left where a neighbour can take some of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.rewrites import rewrite
from lightseg.export.rewrites.equalise import LARGE, equalise

BETWEEN: dict[str, Any] = {
    "prelu": lambda: ops.PReLU(torch.tensor([-3.6, 0.25, 4.8, -0.5], dtype=torch.float64)),
    "pool": lambda: ops.AvgPool(2),
    "mean": lambda: ops.GlobalMean(),
    "upsample": lambda: ops.Upsample(2, True),
    "positives": lambda: ops.Positives(),
}


def _chain(layers: list[nn.Module]) -> fx.GraphModule:
    root, graph = nn.Module(), fx.Graph()
    value = graph.placeholder("image")
    for i, layer in enumerate(layers):
        root.add_module(f"op{i}", layer)
        value = graph.call_module(f"op{i}", (value,))
    graph.output(value)
    return fx.GraphModule(root, graph)


def _conv(seed: int, depthwise: bool, span: float, bias: bool) -> ops.Conv:
    """Four channels in and out; the weights of a channel lie within ``span`` powers of two of one."""
    make = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 1 if depthwise else 4, 3, 3, generator=make, dtype=torch.float64)
    scale = torch.exp2(span * (2 * torch.rand(4, generator=make, dtype=torch.float64) - 1))
    offset = torch.randn(4, generator=make, dtype=torch.float64) if bias else None
    return ops.Conv(weight * scale[:, None, None, None], offset, padding=(1, 1), groups=4 if depthwise else 1)


LAYER = st.tuples(st.integers(0, 999), st.booleans(), st.sampled_from([0.0, 4.0, 16.0, 30.0]), st.booleans())
STEP = st.one_of(LAYER, st.sampled_from(["pool", "positives", "prelu", "upsample"]))
STEPS = st.lists(STEP, min_size=2, max_size=7).filter(lambda s: s.count("pool") <= 4 and s.count("upsample") <= 2)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, data=st.integers(0, 99))
def test_every_bit_stays(steps: list[Any], data: int) -> None:
    graph = _chain([BETWEEN[s]() if isinstance(s, str) else _conv(*s) for s in steps])
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(data), dtype=torch.float64)
    before, largest = graph(x), _largest(graph)
    rewrite(graph, (equalise,))
    assert torch.equal(graph(x), before)
    assert _largest(graph) <= max(largest, LARGE)


def _largest(graph: fx.GraphModule) -> float:
    return max(
        (float(b.abs().max()) for m in graph.children() if isinstance(m, ops.Conv) for b in m.buffers()), default=0
    )


@pytest.mark.parametrize("between", [None, *BETWEEN])
def test_a_large_weight_is_shared(between: str | None) -> None:
    small, large = _conv(1, True, 0.0, True), _conv(2, False, 0.0, False)
    large.weight = large.weight * 2.0**17
    middle = [BETWEEN[between]()] if between else []
    graph = _chain([small, *middle, large])
    assert rewrite(graph, (equalise,)) == {"equalise": 1}
    assert _largest(graph) < 2.0**12
    assert large.bias is None


def test_what_two_read_is_left_alone() -> None:
    root, graph = nn.Module(), fx.Graph()
    for name in ("first", "second", "third"):
        root.add_module(name, _conv(3, False, 30.0, True))
    root.add_module("add", ops.Add())
    first = graph.call_module("first", (graph.placeholder("image"),))
    readers = [graph.call_module(n, (first,)) for n in ("second", "third")]
    graph.output(graph.call_module("add", tuple(readers)))
    module = fx.GraphModule(root, graph)
    before = copy.deepcopy(module.state_dict())
    assert equalise(module) == 0
    _same(before, module)


def test_ordinary_weights_are_left_alone() -> None:
    module = _chain([_conv(4, False, 4.0, True), BETWEEN["prelu"](), _conv(5, True, 4.0, True)])
    before = copy.deepcopy(module.state_dict())
    assert equalise(module) == 0
    _same(before, module)


def test_channels_of_zeros_are_left_alone() -> None:
    first, second = _conv(6, False, 0.0, False), _conv(7, True, 0.0, False)
    first.weight[1], second.weight[1], second.weight[2] = 0, 2.0**20, 2.0**20
    graph = _chain([first, second])
    assert equalise(graph) == 1
    assert all(torch.isfinite(b).all() for b in graph.buffers())
    assert float(second.weight[1].max()) == 2.0**20 and float(second.weight[2].max()) < 2.0**12


def _same(before: dict[str, Tensor], module: nn.Module) -> None:
    after = module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
