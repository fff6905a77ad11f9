"""Rewrites never change the function: on the five networks, and on random graphs that look like no network."""

from __future__ import annotations

import copy
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.capture import capture
from lightseg.export.graph.compose import OUTPUTS, append_head
from lightseg.export.graph.edit import op_nodes
from lightseg.export.rewrites import (
    ALWAYS,
    rewrite,
)
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS, create_model
from tests.export.random_graphs import MULTIPLE, SIZE, STEADY, graphs, largest, sketch
from tests.export.subjects import DYNAMIC, all_rewrites, double, graph_of, images, relative, small_size

EXACT = 1e-12
TABLES = {"always": ALWAYS} | {name: target.rewrites() for name, target in TARGETS.items()}
ANY_SIZE = {r.__name__ for r in ALWAYS}.union(*({r.__name__ for r in TABLES[name]} for name in DYNAMIC))
"""Rewrites whose result must not depend on the size of the image."""
MANY = [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("sinet", "c3netv2"))) for n in MODELS]
CHANNELS_LAST = {name for name, target in TARGETS.items() if target.layout == "NHWC"} | {"executorch"}
"""ExecuTorch's files take and give channels first, and are channels last between."""
ARGUMENTS = tuple[list[str], int]


def test_discovery_finds_what_the_tables_name() -> None:
    named = {r.__name__ for table in TABLES.values() for r in table}
    assert named and named <= set(all_rewrites())


@cache
def rewritten(name: str, table: str) -> fx.GraphModule:
    """The network with all rewrites of a table. Do not change it."""
    graph = graph_of(name)
    rewrite(graph, TABLES[table])
    return graph


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", MODELS)
def test_all_rewrites_of_a_target_leave_the_network_the_same_function(name: str, table: str) -> None:
    x = images(name)
    assert relative(rewritten(name, table)(x), double(name)(x).detach()) <= EXACT


@pytest.mark.parametrize("rule", all_rewrites())
@pytest.mark.parametrize("name", MANY)
def test_each_rewrite_alone_leaves_the_network_the_same_function(name: str, rule: str) -> None:
    graph = graph_of(name)
    if rewrite(graph, [all_rewrites()[rule]])[rule]:
        x = images(name)
        assert relative(graph(x), double(name)(x).detach()) <= EXACT


FORESTALLED = ("late_concat", "fill_packing", "split_prelu")
"""Others of another target leave these nothing to do; no table names both."""


@cache
def changes() -> Counter[str]:
    """How often each rewrite applies to the networks; a head makes one 1×1 convolution follow another."""
    found = Counter[str]()
    for name, output in [*((n, OUTPUTS[0]) for n in MODELS), ("sinet", "mask"), ("c3net", "mask")]:
        graph = graph_of(name)
        append_head(graph, MODELS[name], output)
        alone = copy.deepcopy(graph)
        found.update(rewrite(graph, [r for r in all_rewrites().values() if r.__name__ not in FORESTALLED]))
        found.update(rewrite(alone, [all_rewrites()[name] for name in FORESTALLED]))
    return found


@pytest.mark.parametrize("rule", sorted(set(all_rewrites()) - {"equalise", "drop_constant", "turn_steep"}))
def test_each_rewrite_finds_something_in_some_network(rule: str) -> None:
    """One that never applies is dead code. (Three wait for values no random network has; they are tested apart.)"""
    assert changes()[rule]


@pytest.mark.parametrize("target", DYNAMIC)
@pytest.mark.parametrize("name", MODELS)
def test_rewritten_graphs_run_at_another_batch_and_size(name: str, target: str) -> None:
    height, width = small_size(name)
    x = images(name, 2, (width, height + MODELS[name].multiple))
    assert relative(rewritten(name, target)(x), double(name)(x).detach()) <= EXACT


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", MODELS)
def test_rewriting_stays_inside_the_set_and_cleans_up(name: str, table: str) -> None:
    graph = rewritten(name, table)
    called = {str(node.target) for node, _ in op_nodes(graph)}
    known = {*ops.OPS, *(ops.CHANNELS_LAST if table in CHANNELS_LAST else ())}
    assert {type(op) for _, op in op_nodes(graph)} <= known
    assert called == {n for n, m in graph.named_modules() if type(m) in known}
    assert not any(rewrite(copy.deepcopy(graph), TABLES[table]).values()), "a second round finds something"


@given(arguments=graphs())
@settings(STEADY, max_examples=40)
@pytest.mark.parametrize("table", TABLES)
def test_random_graphs_stay_the_same_function(table: str, arguments: ARGUMENTS) -> None:
    _unchanged(arguments, [r.__name__ for r in TABLES[table]])


@given(arguments=graphs(5))
@settings(STEADY, max_examples=15)
@pytest.mark.parametrize("rule", all_rewrites())
def test_random_graphs_survive_each_rewrite_alone(rule: str, arguments: ARGUMENTS) -> None:
    _unchanged(arguments, [rule])


@given(arguments=graphs())
@settings(STEADY, max_examples=40)
def test_random_graphs_survive_all_rewrites_together(arguments: ARGUMENTS) -> None:
    _unchanged(arguments, list(all_rewrites()))


def _unchanged(arguments: ARGUMENTS, rules: list[str]) -> None:
    before = sketch(*arguments)
    after = copy.deepcopy(before)
    rewrite(after, [all_rewrites()[r] for r in rules])
    other = [(2, 3, SIZE[1] + MULTIPLE, SIZE[0])] if set(rules) <= ANY_SIZE else []
    for shape in ((2, 3, *SIZE), *other):
        x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(arguments[1]))
        assert _difference(before, after, x) <= EXACT * 10


def _difference(before: fx.GraphModule, after: fx.GraphModule, x: Tensor) -> float:
    """max|Δ| as a share of the largest value on the way."""
    a, b = before(x), after(x)
    assert a.shape == b.shape
    return float((a - b).abs().max()) / largest(before, x)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", MODELS)
def test_released_weights_survive_too(name: str, table: str, released: Path) -> None:
    """Slopes, statistics and dead channels as they are in the wild."""
    model = create_model(name)
    graph = capture(model, *small_size(name), model.spec.multiple)
    x = images(name)
    want = graph(x)
    rewrite(graph, TABLES[table])
    assert relative(graph(x), want) <= EXACT
