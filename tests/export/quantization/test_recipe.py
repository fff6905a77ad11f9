"""What travels in the record is enough to make the int8 graph again, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightseg.errors import BadInput, Unsupported
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.pipeline import Request, make_plan
from lightseg.export.quantization.plan import Wish
from lightseg.export.quantization.recipe import Recipe
from lightseg.export.targets import TARGETS
from tests.export.quantization.made import made, photographs
from tests.export.subjects import reference


@pytest.mark.parametrize("baked", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_the_record_makes_the_very_graph_again(target: str, baked: bool) -> None:
    m, known, into = made("sinet", target, baked), reference("sinet"), TARGETS[target]
    preprocess = "baked" if baked else "none"
    plan, _ = make_plan(known, into, Request("int8", known.size, preprocess=preprocess, int8=Wish(photographs())))
    recipe = Recipe.from_text(m.quantised.recipe.to_text())
    assert into.int8 is not None and recipe.floats == m.quantised.floats
    n, c, h, w = plan.input_shape
    again = recipe.apply(plan.graph, (n, h, w, c) if baked else (n, c, h, w), into.int8)
    ours, theirs = ({node.name: op for node, op in op_nodes(graph)} for graph in (again, m.graph))
    assert list(ours) == list(theirs)
    for name, op in theirs.items():
        assert type(ours[name]) is type(op)
        if isinstance(op, QuantisedConv | FakeQuantise):
            mine = dict(ours[name].named_buffers())
            assert all(torch.equal(mine[key], value) for key, value in op.named_buffers())
            assert getattr(op, "zero_point", 0) == getattr(ours[name], "zero_point", 0)


@pytest.mark.parametrize("text", ["", "nonsense", "eJyrBQAAdgB1", Recipe((), {}).to_text()[:-8]])
def test_a_damaged_record_is_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="export the file again"):
        Recipe.from_text(text)


def test_another_graph_is_refused() -> None:
    m = made("sinet", "onnx")
    recipe, known = m.quantised.recipe, reference("sinet")
    scheme = TARGETS["onnx"].int8
    assert scheme is not None
    with pytest.raises(Unsupported, match="a graph this version does not make"):
        replace(recipe, exponents=recipe.exponents[:-1]).apply(known.graph, (1, 3, *known.size), scheme)
    plan, _ = make_plan(known, TARGETS["onnx"], Request("int8", known.size, int8=Wish(photographs())))
    with pytest.raises(Unsupported, match="no int8 grid for"):
        replace(recipe, grids={}).apply(plan.graph, plan.input_shape, scheme)
