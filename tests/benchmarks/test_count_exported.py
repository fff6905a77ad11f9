"""Counted three times: from PyTorch, from the ONNX file and from the TFLite file of every model."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from lightseg.benchmarks.count_model import count_model
from lightseg.benchmarks.counting import TRAINED, Cost, differences
from lightseg.benchmarks.profile import count_file
from lightseg.export import export
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS, create_model


def size(name: str) -> tuple[int, int]:
    """Small and not square; costs are exact at any size."""
    side = max(64, MODELS[name].multiple)
    return side, 2 * side


@cache
def counted(name: str) -> Cost:
    return count_model(create_model(name, "random"), size(name))


@cache
def reference(name: str) -> Reference:
    return Reference(create_model(name, "random"), *size(name))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_files_cost_what_the_model_costs(name: str, target: str, tmp_path: Path) -> None:
    if reason := TARGETS[target].why_not_convert() or TARGETS[target].why_not_load():
        pytest.skip(reason)
    shared = reference(name)
    artifact = export(shared.model, to=target, out=tmp_path, input_size=size(name), reference=shared)
    file, model = count_file(artifact.path), counted(name)
    assert differences(model, file) == ()
    assert file.macs_by_kind == model.macs_by_kind
    assert file.params == sum(model.folded[role] for role in TRAINED)
