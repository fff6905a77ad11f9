"""The proof of int8 files refuses every seeded defect; each defect is what its name says."""

from __future__ import annotations

import pytest
import torch

from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.int8_defects import GRID_DEFECTS
from lightseg.export.selftest import self_test
from lightseg.zoo import create_model
from tests.export.quantization.made import made
from tests.export.subjects import require

FIELD = {
    "padding off by one", "stale weights", "negative slopes dropped", "branch dropped", "classes swapped",
    "channel order swapped", "mean missing", "division by 255 missing", "activation scale stale",
    "zero point of the other sign", "weight scales swapped", "bias dropped",
    "output channels one place on", "input NCHW read as NHWC",
}  # fmt: skip
"""What goes wrong in the field; SINet has a place for each of them in every target."""


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_every_defect_in_an_int8_file_is_refused(target: str) -> None:
    require(target)
    result = self_test(create_model("sinet"), target, "int8")
    assert result.survivors == [] and result.kill_rate == 1
    assert {t.defect for t in result.trials if t.caught} >= FIELD
    assert result.smallest_caught is not None and result.smallest_caught <= 1e-1


@pytest.mark.parametrize("defect", GRID_DEFECTS)
def test_a_defect_of_the_numbers_changes_one_operation_and_can_be_written(defect: str) -> None:
    sound = made("sinet", "onnx").graph
    before = {n.name: op for n, op in op_nodes(sound)}
    places = list(GRID_DEFECTS[defect](sound))
    assert 1 <= len(places) <= 3
    for damaged in places:
        after = {n.name: op for n, op in op_nodes(damaged)}
        (name,) = (name for name, op in before.items() if not _same(op, after[name]))
        op = after[name]
        assert isinstance(op, FakeQuantise | QuantisedConv)
        if isinstance(op, QuantisedConv):
            whole = op.weight / op.weight_scale[:, None, None, None]
            assert (whole - whole.round()).abs().max() < 1e-6 and whole.abs().max() <= 127 + 1e-6
        else:
            assert op.low <= op.zero_point <= op.high


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = dict(a.named_buffers()), dict(b.named_buffers())
    same = all(torch.equal(ours[key], theirs[key]) for key in ours)
    return same and getattr(a, "zero_point", 0) == getattr(b, "zero_point", 0)
