"""The default portrait networks, exported as a user would, may not cost more than docs/budget.json says.

Renew it, when a rise is meant, with the command in docs/ci.md.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from lightseg.benchmarks.counting.budget import read_budget
from lightseg.benchmarks.counting.counters import INSTRUCTIONS, count_artifact
from lightseg.export import export
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.zoo import create_model

FILE = Path(__file__).resolve().parents[3] / "docs" / "budget.json"
BUDGET = read_budget(FILE)


@cache
def answered(name: str) -> Reference:
    """PyTorch's answers, computed once for both formats."""
    model = create_model(name)
    return Reference(model, *model.spec.input_size)


@pytest.mark.parametrize("target", ["tflite", "onnx"])
@pytest.mark.parametrize("name", ["sinet", "extremec3net"])
def test_no_counter_rises(name: str, target: str, tmp_path: Path) -> None:
    if reason := TARGETS[target].why_not_convert() or TARGETS[target].why_not_load():
        pytest.skip(reason)
    path = export(answered(name).model, to=target, out=tmp_path, reference=answered(name)).path
    assert BUDGET.breaches([count_artifact(path, instructions=False)]) == []


def test_the_budget_holds_what_is_the_same_on_every_machine() -> None:
    assert len(BUDGET.artifacts) == 4
    for entry in BUDGET.artifacts.values():
        assert set(entry["counts"]) >= {"params", "macs", "operators", "layout", "casts", "artifact_bytes"}
        assert not set(entry["counts"]) & set(INSTRUCTIONS)
    assert {
        name: entry["counts"].get("partitions") for name, entry in BUDGET.artifacts.items() if "tflite" in name
    } == {
        "sinet-lightseg-fp32.tflite": 1,
        "extremec3net-lightseg-fp32.tflite": 1,
    }
