"""Value by value: a sound file passes, and a defect that the logits would hide is refused with the value's name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import fx

from lightseg.errors import ParityError
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.inside import INSIDES
from lightseg.export.quantization.steps import Steps, compare_steps
from lightseg.export.targets import TARGETS
from tests.export.quantization.made import INT8, Made, made
from tests.export.subjects import require

SHOWN = [t for t in INT8 if t in INSIDES]
PLACE = 7
"""Which of the operations of its kind is damaged: one in the middle."""


def written(m: Made, graph: fx.GraphModule, folder: Path) -> Path:
    target = TARGETS[m.record.target]
    path = folder / f"file{target.suffix}"
    if target.folder:
        path.mkdir()
    target.convert(replace(m.plan, graph=graph), path)
    return path


def steps(m: Made, path: Path) -> Steps:
    found = compare_steps(path, m.record, m.graph, m.simulated, "photo")
    assert found is not None
    return found


@pytest.mark.parametrize("target", [t if t == "onnx" else pytest.param(t, marks=pytest.mark.slow) for t in SHOWN])
def test_a_sound_file_keeps_every_value(target: str, tmp_path: Path) -> None:
    require(target)
    m = made("sinet", target)
    found = steps(m, written(m, m.plan.graph, tmp_path))
    found.check("file")
    assert len(found.steps) == sum(isinstance(op, FakeQuantise) for _, op in op_nodes(m.graph))
    assert found.worst.off < 0.005


def stale_scale(graph: fx.GraphModule) -> None:
    grid = [op for _, op in op_nodes(graph) if isinstance(op, FakeQuantise)][PLACE]
    grid.scale = (grid.scale * 1.05).float().double()


def stale_weight_scale(graph: fx.GraphModule) -> None:
    conv = _conv(graph)
    conv.weight, conv.weight_scale = conv.weight * 1.05, conv.weight_scale * 1.05


def bias_dropped(graph: fx.GraphModule) -> None:
    conv = _conv(graph)
    assert conv.bias is not None
    conv.bias = torch.zeros_like(conv.bias)


def sign_flipped(graph: fx.GraphModule) -> None:
    conv = _conv(graph)
    conv.weight = torch.cat([-conv.weight[:1], conv.weight[1:]])


def _conv(graph: fx.GraphModule) -> QuantisedConv:
    return [op for _, op in op_nodes(graph) if isinstance(op, QuantisedConv) and op.groups == 1][PLACE]


DEFECTS: tuple[Callable[[fx.GraphModule], None], ...] = (stale_scale, stale_weight_scale, bias_dropped, sign_flipped)


@pytest.mark.parametrize(
    "defect", [*DEFECTS[:2], *(pytest.param(d, marks=pytest.mark.slow) for d in DEFECTS[2:])], ids=lambda d: d.__name__
)
@pytest.mark.parametrize("target", [t if t == "onnx" else pytest.param(t, marks=pytest.mark.slow) for t in SHOWN])
def test_a_damaged_file_is_refused(target: str, defect: Callable[[fx.GraphModule], None], tmp_path: Path) -> None:
    require(target)
    m = made("sinet", target)
    damaged = copy.deepcopy(m.plan.graph)
    defect(damaged)
    found = steps(m, written(m, damaged, tmp_path))
    with pytest.raises(ParityError, match=r"is off its int8 (grid|product) on probe photo: .*by up to "):
        found.check("file")
    assert sum(not s.ok for s in found.steps) <= 4, "the values behind the damaged one are judged by what they read"


@pytest.mark.parametrize("kind", [pytest.param("QuantizeLinear", marks=pytest.mark.slow), "DequantizeLinear"])
def test_a_zero_point_off_by_one_is_refused(kind: str, tmp_path: Path) -> None:
    require("onnx")
    import onnx

    m = made("sinet", "onnx")
    path = written(m, m.plan.graph, tmp_path)
    model = onnx.load(path)
    values = {t.name: t for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == kind and len(n.input) == 3]
    zero = onnx.numpy_helper.to_array(values[nodes[PLACE].input[2]])
    model.graph.initializer.append(onnx.numpy_helper.from_array(zero + zero.dtype.type(1), "other_zero"))
    nodes[PLACE].input[2] = "other_zero"
    onnx.save(model, path)
    with pytest.raises(ParityError, match="is off its int8 grid"):
        steps(m, path).check("file")
