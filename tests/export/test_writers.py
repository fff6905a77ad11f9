"""Every operation, written by every target's writer and run by its runtime, is the operation in PyTorch."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

import lightseg.export.writers
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import QUANTISED
from lightseg.export.rewrites import rewrite
from lightseg.export.targets import TARGETS
from tests.export.random_graphs import STEADY, Builder, graphs, largest, sketch
from tests.export.subjects import SLOW_WRITERS, relative, require
from tests.export.written import ROUNDING, noise, run_written

QUICK = [pytest.param(t, marks=[pytest.mark.slow] * (t in SLOW_WRITERS)) for t in TARGETS]
ODD, EVEN = (1, 4, 7, 9), (1, 4, 8, 10)
Shape = tuple[int, int, int, int]
Case = tuple[Shape, Callable[[Builder], fx.Node]]


def _one(make: Callable[[Builder], nn.Module]) -> Callable[[Builder], fx.Node]:
    """A graph of one node."""
    return lambda b: b.call(make(b), b.image)


def _both(op: nn.Module, make: Callable[[Builder], nn.Module]) -> Callable[[Builder], fx.Node]:
    """``op`` of the image and of what another operation makes of it."""
    return lambda b: b.call(op, b.image, b.call(make(b), b.image))


def _conv(*arguments: Any, **options: Any) -> Callable[[Builder], fx.Node]:
    return _one(lambda b: b.conv(*arguments, **options))


def _slopes(*values: float) -> Callable[[Builder], fx.Node]:
    return _one(lambda b: ops.PReLU(torch.tensor(values)))


def _scaled(scale: list[float], shift: list[float]) -> Callable[[Builder], fx.Node]:
    return _one(lambda b: ops.Affine(torch.tensor(scale), torch.tensor(shift)))


CASES: dict[str, Case] = {
    "conv 1x1": (ODD, _conv(4, 5)),
    "conv without bias": (ODD, _conv(4, 5, bias=False)),
    "conv to one channel": (ODD, _conv(4, 1)),
    "conv 3x3": (ODD, _conv(4, 5, (3, 3))),
    "conv 5x1": (ODD, _conv(4, 5, (5, 1))),
    "conv 1x4, unpadded": (ODD, _conv(4, 5, (1, 4), padding=(0, 0))),
    "conv 2x2, padded": (ODD, _conv(4, 5, (2, 2), padding=(1, 1))),
    "conv overpadded": (ODD, _conv(4, 5, (3, 3), padding=(3, 2))),
    "conv stride 2, odd size": (ODD, _conv(4, 5, (3, 3), (2, 2))),
    "conv stride 2, even size": (EVEN, _conv(4, 5, (3, 3), (2, 2))),
    "conv stride 2, unpadded": (EVEN, _conv(4, 5, (3, 3), (2, 2), padding=(0, 0))),
    "conv stride 2x1": (EVEN, _conv(4, 5, (3, 3), (2, 1))),
    "conv 5x5 stride 3": (EVEN, _conv(4, 5, (5, 5), (3, 3))),
    "conv dilated": (ODD, _conv(4, 5, (3, 3), dilation=(2, 2))),
    "conv dilated apart": (ODD, _conv(4, 5, (3, 3), dilation=(3, 1))),
    "conv dilated beyond the map": (ODD, _conv(4, 5, (3, 3), dilation=(13, 13))),
    "conv in groups": (ODD, _conv(4, 6, groups=2)),
    "conv 3x3 in groups": (EVEN, _conv(4, 6, (3, 3), groups=2)),
    "depthwise": (ODD, _conv(4, 4, (3, 3), groups=4)),
    "depthwise stride 2, odd size": (ODD, _conv(4, 4, (3, 3), (2, 2), groups=4)),
    "depthwise stride 2, even size": (EVEN, _conv(4, 4, (3, 3), (2, 2), groups=4)),
    "depthwise 5x5 stride 2": (EVEN, _conv(4, 4, (5, 5), (2, 2), groups=4)),
    "depthwise dilated": (ODD, _conv(4, 4, (3, 3), dilation=(5, 2), groups=4)),
    "depthwise with a multiplier": (ODD, _conv(4, 8, (3, 3), groups=4)),
    "depthwise 27x1": (ODD, _conv(4, 4, (27, 1), groups=4)),
    "deconv": (ODD, _one(lambda b: ops.Deconv(b.normal(4, 3, 2, 2), b.normal(3)))),
    "deconv without bias": (EVEN, _one(lambda b: ops.Deconv(b.normal(4, 5, 2, 2)))),
    "deconv by three": (ODD, _one(lambda b: ops.Deconv(b.normal(4, 3, 3, 3), b.normal(3)))),
    "affine": (ODD, _scaled([0.5, -2.0, 0.0, 1.0], [1.0, 0.0, -3.0, 0.25])),
    "affine without shift": (ODD, _scaled([0.5, -2.0, 3.0, 1.0], [0.0] * 4)),
    "affine without scale": (ODD, _scaled([1.0] * 4, [0.5, 0.0, -1.0, 2.0])),
    "affine that does nothing": (ODD, _scaled([1.0] * 4, [0.0] * 4)),
    "one affine for all channels": (ODD, _scaled([-1.0], [1.0])),
    "prelu with negative slopes": (ODD, _slopes(-3.6, -0.25, 0.25, 4.8)),
    "prelu with slopes nought and one": (ODD, _slopes(0.0, 1.0, -1.0, 0.5)),
    "concat": (ODD, lambda b: b.call(ops.Concat(), b.image, b.call(ops.Sigmoid(), b.image), b.image)),
    "concat of unlike widths": (ODD, _both(ops.Concat(), lambda b: b.conv(4, 3))),
    "add": (ODD, _both(ops.Add(), lambda b: b.conv(4, 4))),
    "add to itself": (ODD, lambda b: b.call(ops.Add(), b.image, b.image)),
    "mul": (ODD, _both(ops.Mul(), lambda b: b.conv(4, 4))),
    "mul by a value per channel": (ODD, _both(ops.Mul(), lambda b: ops.GlobalMean())),
    "mul by one channel": (ODD, _both(ops.Mul(), lambda b: ops.MaxChannel())),
    "pool 2, even size": (EVEN, _one(lambda b: ops.AvgPool(2))),
    "pool 2, odd size": (ODD, _one(lambda b: ops.AvgPool(2))),
    "pool 8": ((1, 4, 16, 24), _one(lambda b: ops.AvgPool(8))),
    "global mean": (ODD, _one(lambda b: ops.GlobalMean())),
    "upsample 2, corners aligned": (ODD, _one(lambda b: ops.Upsample(2, True))),
    "upsample 2, half pixels": (ODD, _one(lambda b: ops.Upsample(2, False))),
    "upsample 4, corners aligned": ((1, 2, 5, 3), _one(lambda b: ops.Upsample(4, True))),
    "upsample 4, half pixels": ((1, 2, 5, 3), _one(lambda b: ops.Upsample(4, False))),
    "upsample 8, one row, corners aligned": ((1, 2, 1, 3), _one(lambda b: ops.Upsample(8, True))),
    "upsample 3, one row, half pixels": ((1, 2, 1, 3), _one(lambda b: ops.Upsample(3, False))),
    "permute": (ODD, _one(lambda b: ops.Permute(torch.tensor([2, 0, 3, 1])))),
    "shuffle of three groups": ((1, 6, 3, 5), _one(lambda b: b.shuffle(6, 3))),
    "softmax": (ODD, _one(lambda b: ops.Softmax())),
    "softmax of one channel": ((1, 1, 4, 5), _one(lambda b: ops.Softmax())),
    "largest channel": (ODD, _one(lambda b: ops.MaxChannel())),
    "sigmoid": (ODD, _one(lambda b: ops.Sigmoid())),
    "absolute value": (ODD, _one(lambda b: ops.Abs())),
    "positives": (ODD, _one(lambda b: ops.Positives())),
    "negatives": (ODD, _one(lambda b: ops.Negatives())),
    "depth to space": ((1, 12, 3, 5), _one(lambda b: ops.DepthToSpace(2))),
    "depth to space by three": ((1, 18, 3, 5), _one(lambda b: ops.DepthToSpace(3))),
    "first channels": (ODD, _one(lambda b: ops.FirstChannels(3))),
    "first channel": (ODD, _one(lambda b: ops.FirstChannels(1))),
    "argmax": (ODD, _one(lambda b: ops.ArgMax())),
    "argmax of first channels": (ODD, lambda b: b.call(ops.ArgMax(), b.call(ops.FirstChannels(3), b.image))),
    "positive": ((1, 1, 7, 9), _one(lambda b: ops.Positive())),
    "from image": ((1, 3, 5, 7), _one(lambda b: ops.FromImage())),
    "first layer on an image": (
        (1, 3, 5, 7),
        lambda b: b.call(b.conv(3, 4, (3, 3), (2, 2)), b.call(ops.FromImage(), b.image)),
    ),
    "columns to channels": (ODD, _one(lambda b: ops.ColumnsToChannels())),
    "channels to columns": ((1, 12, 5, 1), _one(lambda b: ops.ChannelsToColumns(4))),
    "stretched rows, corners aligned": ((1, 6, 5, 1), _one(lambda b: ops.StretchRows(2, True))),
    "stretched rows, half pixels": ((1, 6, 5, 1), _one(lambda b: ops.StretchRows(4, False))),
}


def _tables() -> dict[str, dict[type, object]]:
    modules = (
        f"{lightseg.export.writers.__name__}.{i.name}" for i in pkgutil.iter_modules(lightseg.export.writers.__path__)
    )
    found = {name: getattr(importlib.import_module(name), "WRITERS", None) for name in modules}
    return {name: table for name, table in found.items() if table is not None}


@pytest.mark.parametrize("module", _tables())
def test_writers_cover_the_set_exactly(module: str) -> None:
    table = set(_tables()[module])
    assert set(ops.OPS) <= table <= {*ops.OPS, *ops.CHANNELS_LAST, *QUANTISED}


def test_every_operation_has_a_case() -> None:
    seen = {type(op) for shape, build in CASES.values() for _, op in op_nodes(_graph(shape, build))}
    assert seen == {*ops.OPS, *ops.CHANNELS_LAST}


def _graph(shape: Shape, build: Callable[[Builder], fx.Node]) -> fx.GraphModule:
    b = Builder(shape, seed=5)
    return b.finish(build(b))


@pytest.mark.parametrize("target", QUICK)
@pytest.mark.parametrize("case", CASES)
def test_operation_is_the_one_in_pytorch(case: str, target: str) -> None:
    require(target)
    shape, build = CASES[case]
    graph = _graph(shape, build)
    known = {type(op) for _, op in op_nodes(graph)}
    if known & set(ops.CHANNELS_LAST) and TARGETS[target].layout != "NHWC":
        pytest.skip(f"{case} is for targets whose channels come last")
    _compare(target, graph, shape)


def _compare(target: str, graph: fx.GraphModule, shape: Shape, tolerance: float = ROUNDING) -> None:
    kinds = {type(op) for _, op in op_nodes(graph)}
    if ops.FromImage in kinds:
        x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        want = graph(x.permute(0, 2, 3, 1))
    else:
        x = noise(shape)
        want = graph(x)
    whole = kinds & {ops.ArgMax, ops.Positive}
    got = run_written(target, graph, x, "mask" if whole else "logits")
    assert got.shape == tuple(want.shape)
    if whole:
        np.testing.assert_array_equal(got, want.numpy())
    else:
        assert relative(got, want) <= tolerance


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Shape, dict[str, Any]]:
    """Any window that fits its map, in any number of groups."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2), (3, 2)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    if stride != (1, 1):
        dilation = (1, 1)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation)]
    padding = draw(st.tuples(*(st.integers(0, r) for r in reach)))
    least = [max(1, r + 1 - 2 * p) for r, p in zip(reach, padding)]
    height, width = (low + draw(st.integers(0, 6)) for low in least)
    cout = groups * draw(st.sampled_from([1, 2, 3]))
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return (1, 4, height, width), {"cin": 4, "cout": cout, "groups": groups, **window}


@given(case=convolutions())
@settings(STEADY, max_examples=40)
@pytest.mark.parametrize("target", QUICK)
def test_any_convolution(target: str, case: tuple[Shape, dict[str, Any]]) -> None:
    require(target)
    shape, options = case
    b = Builder(shape, seed=7)
    _compare(target, b.finish(b.call(b.conv(**options), b.image)), shape)


@given(arguments=graphs(7))
@settings(STEADY, max_examples=25)
@pytest.mark.parametrize("rewritten", [False, True], ids=["as captured", "rewritten"])
@pytest.mark.parametrize("target", QUICK)
def test_random_graphs_are_written_right(target: str, rewritten: bool, arguments: tuple[list[str], int]) -> None:
    """Operations together: shared inputs, constants in common, fused neighbours."""
    require(target)
    graph = sketch(*arguments)
    x = noise(graph.meta["input_shape"])
    want, scale = graph(x), largest(graph, x)
    if rewritten:
        rewrite(graph, TARGETS[target].rewrites())
    got = run_written(target, graph, x)
    assert got.shape == tuple(want.shape)
    assert float(np.abs(got - want.numpy()).max()) <= 3 * ROUNDING * scale


@pytest.mark.parametrize("target", TARGETS)
def test_values_without_rounding_come_through_exactly(target: str) -> None:
    """No detour through a narrower type: 2²⁴ − 1 and 1/3 in float32 survive a permutation bit by bit."""
    require(target)
    shape = (1, 4, 3, 5)
    x = noise(shape).float().double()
    x[0, 0, 0, :3] = torch.tensor([2.0**24 - 1, 1 / 3, -1e-30]).float().double()
    graph = _graph(shape, lambda b: b.call(ops.Permute(torch.tensor([3, 2, 1, 0])), b.image))
    np.testing.assert_array_equal(run_written(target, graph, x), graph(x).float().numpy())
