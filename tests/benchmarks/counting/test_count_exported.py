"""Counted three times: in PyTorch, in the graph the writers start from, and in the ONNX and TFLite files they write."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import fx

from lightseg.benchmarks import cli
from lightseg.benchmarks.counting.cost import TRAINED, Cost, differences
from lightseg.benchmarks.counting.model import count_model
from lightseg.benchmarks.profile import count_file
from lightseg.benchmarks.rewritten import count_graph, count_rewritten
from lightseg.export import export
from lightseg.export.graph.capture import capture
from lightseg.export.rewrites import fold_affine, rewrite
from lightseg.export.targets import TARGETS, Plan
from lightseg.zoo import MODELS, create_model

COUNTED = ("onnx", "tflite")


@cache
def captured(name: str) -> fx.GraphModule:
    spec = MODELS[name]
    return capture(create_model(name, "random"), *spec.input_size, spec.multiple)


@cache
def counted(name: str) -> Cost:
    return count_model(MODELS[name].build(), MODELS[name].input_size)


def written(name: str, target: str, graph: fx.GraphModule, folder: Path) -> Cost:
    """The cost of the file that ``target`` makes of ``graph``."""
    if reason := TARGETS[target].why_not_convert():
        pytest.skip(reason)
    spec, (height, width) = MODELS[name], MODELS[name].input_size
    answer = (1, spec.channels, height // spec.output_stride, width // spec.output_stride)
    path = folder / f"m{TARGETS[target].suffix}"
    TARGETS[target].convert(
        Plan(graph, "fp32", (1, 3, height, width), answer, "logits", False, False, spec.multiple), path
    )
    return count_file(path)


@pytest.mark.parametrize("target", COUNTED)
@pytest.mark.parametrize("name", MODELS)
def test_with_batch_norms_folded_a_file_costs_what_the_model_costs(name: str, target: str, tmp_path: Path) -> None:
    graph = copy.deepcopy(captured(name))
    rewrite(graph, (fold_affine,))
    file, model = written(name, target, graph, tmp_path), counted(name)
    assert differences(model, file) == ()
    assert file.macs == MODELS[name].macs
    assert {role: file.elements[role] for role in TRAINED} == {role: model.folded[role] for role in TRAINED}


@pytest.mark.parametrize("target", COUNTED)
@pytest.mark.parametrize("name", ["sinet", "extremec3net", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS)])
def test_with_all_rewrites_a_file_costs_what_the_rewritten_graph_costs(name: str, target: str, tmp_path: Path) -> None:
    graph = copy.deepcopy(captured(name))
    rewrite(graph, TARGETS[target].rewrites())
    file = written(name, target, graph, tmp_path)
    assert differences(count_graph(graph, torch.empty(1, 3, *MODELS[name].input_size)), file) == ()


def test_the_profile_of_an_artifact_says_whether_it_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := TARGETS["tflite"].why_not_convert() or TARGETS["tflite"].why_not_load():
        pytest.skip(reason)
    model = create_model("extremec3net", "random")
    artifact = export(model, to="tflite", out=tmp_path, input_size=(32, 64), preprocess="baked", output="mask")
    assert cli.main(["--profile", str(artifact.path)]) == 0
    out = capsys.readouterr().out
    assert "the file agrees with the rewritten graph; rewrites applied: fold_affine" in out
    assert "extremec3net in PyTorch" in out
    tampered = replace(count_file(artifact.path), layers=count_file(artifact.path).layers[:-20])
    assert differences(count_rewritten(artifact), tampered) != ()
