"""Counted three times: in PyTorch, in the graph the writers start from, and in the files they write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import fx

from lightseg.benchmarks import cli
from lightseg.benchmarks.counting.cost import TRAINED, Cost, differences
from lightseg.benchmarks.counting.model import count_model
from lightseg.benchmarks.counting.ncnn_file import count_ncnn
from lightseg.benchmarks.profile import count_file
from lightseg.benchmarks.rewritten import count_graph, count_rewritten
from lightseg.export import export
from lightseg.export.general import GENERAL, as_one
from lightseg.export.graph.capture import capture
from lightseg.export.graph.quantised import FakeQuantise
from lightseg.export.quantization.quantise import quantise
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.rewrites import fold_affine, rewrite
from lightseg.export.targets import TARGETS, Plan
from lightseg.export.targets.ncnn import BIN, PARAM
from lightseg.export.writers.ncnn import write_ncnn
from lightseg.zoo import MODELS, create_model
from tests.export.graph_builder import Builder

COUNTED = ("onnx", "tflite")


@cache
def captured(name: str) -> fx.GraphModule:
    spec = MODELS[name]
    return capture(create_model(name, "random"), *spec.input_size, spec.multiple)


@cache
def counted(name: str) -> Cost:
    return count_model(MODELS[name].build(), MODELS[name].input_size)


def written(
    name: str, target: str, graph: fx.GraphModule, folder: Path, convert: Callable[[Plan, Path], None] | None = None
) -> Cost:
    """The cost of the file that ``target``, or another of its converters, makes of ``graph``."""
    if reason := TARGETS[target].why_not_convert():
        pytest.skip(reason)
    spec, (height, width) = MODELS[name], MODELS[name].input_size
    answer = (1, spec.channels, height // spec.output_stride, width // spec.output_stride)
    path = folder / f"m{TARGETS[target].suffix}"
    if TARGETS[target].folder:
        path.mkdir()
    (convert or TARGETS[target].convert)(
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


@pytest.mark.parametrize("name", ["sinet", "extremec3net", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS)])
def test_an_openvino_folder_costs_what_the_rewritten_graph_costs(name: str, tmp_path: Path) -> None:
    graph = copy.deepcopy(captured(name))
    rewrite(graph, TARGETS["openvino"].rewrites())
    file = written(name, "openvino", graph, tmp_path)
    assert differences(count_graph(graph, torch.empty(1, 3, *MODELS[name].input_size)), file) == ()
    assert "other" not in file.ops


@pytest.mark.parametrize("name", ["sinet", "extremec3net", *(pytest.param(n, marks=pytest.mark.slow) for n in MODELS)])
def test_an_ncnn_folder_costs_what_the_rewritten_graph_costs(name: str, tmp_path: Path) -> None:
    """The shapes are inferred, as the text has none: they must end as the network does."""
    graph, spec = copy.deepcopy(captured(name)), MODELS[name]
    rewrite(graph, TARGETS["ncnn"].rewrites())
    file = written(name, "ncnn", graph, tmp_path)
    assert differences(count_graph(graph, torch.empty(1, 3, *spec.input_size)), file) == ()
    assert "other" not in file.ops
    assert file.layers[-1].shape == (spec.channels, *(extent // spec.output_stride for extent in spec.input_size))


def test_an_ncnn_folder_of_the_general_converter_costs_what_the_model_costs(tmp_path: Path) -> None:
    """It keeps batch norms and averages whole planes, which our own writer's files never do."""
    pytest.importorskip("pnnx", reason="pnnx is not installed: lightseg[pnnx]")
    graph = as_one(create_model("sinet", "random"), MODELS["sinet"].input_size)
    file, model = written("sinet", "ncnn", graph, tmp_path, GENERAL["ncnn"].convert), counted("sinet")
    assert file.macs == MODELS["sinet"].macs and file.elements["weight"] == model.elements["weight"]
    assert {role: file.elements[role] for role in TRAINED} == {role: model.folded[role] for role in TRAINED}
    assert "other" not in file.ops and file.ops["norm"]


def test_an_int8_ncnn_folder_has_weights_and_maps_of_one_byte(tmp_path: Path) -> None:
    b = Builder((1, 8, 6, 6))
    graph = b.finish(b.call(b.conv(8, 4, (3, 3)), b.image))
    grids = {"image": FakeQuantise(0.1, 0, -127, 127)}
    text, data = write_ncnn(quantise(graph, grids, Scheme(symmetric=True)), (1, 8, 6, 6), "logits")
    (tmp_path / PARAM).write_text(text)
    (tmp_path / BIN).write_bytes(data)
    cost = count_ncnn(tmp_path)
    assert cost.macs == 6 * 6 * 4 * 8 * 9
    assert cost.elements["weight"] == 4 * 8 * 9 and cost.elements["constant"] == 1 + 4 + 1
    assert cost.peak_activation_bytes == 8 * 36 * (4 + 1)


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
