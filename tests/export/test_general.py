"""What the formats' general converters write: networks with an operation outside the set, and others when asked."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightseg.errors import Unsupported
from lightseg.export import export, verify
from lightseg.export.cli import main
from lightseg.export.general import GENERAL
from lightseg.export.pipeline import Request
from lightseg.export.record import read_artifact
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS, SegmentationModel
from tests.export.subjects import lively, reference, require, small_size

SIZE = (64, 96)


class Foreign(nn.Module):
    """ReLU and windows that overlap are in none of our networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.avg_pool2d(torch.relu(self.norm(self.first(x))), 3, 2, 1)
        y = self.last(torch.relu(self.second(y)))
        return nn.functional.interpolate(y, scale_factor=4.0, mode="bilinear", align_corners=False)


@cache
def foreign() -> Reference:
    torch.manual_seed(0)
    spec = replace(MODELS["sinet"], name="foreign", build=Foreign)
    return Reference(SegmentationModel(spec, replace(spec.weights[0], tag="test"), Foreign()).eval(), *SIZE)


def _export(target: str, folder: Path, **options: Any) -> Any:
    return export(foreign().model, target, folder, Request(input_size=SIZE, **options), foreign())


def _said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("lightseg")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"output": "mask", "preprocess": "baked"}], ids=["plain", "mask"])
@pytest.mark.parametrize("target", GENERAL)
def test_a_general_converter_writes_it_and_the_record_says_so(
    target: str, options: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require(target)
    _installed(target)
    general = GENERAL[target]
    if options.get("preprocess") == "baked" and not general.bakes:
        pytest.skip(f"{general.name} is given no images")
    artifact = _export(target, tmp_path, **options)
    (record,) = _said(caplog)
    assert record.levelno == logging.WARNING and "\n" not in record.getMessage()
    assert general.name in record.getMessage() and "aten.relu" in record.getMessage()
    kept = read_artifact(artifact.path)
    assert (kept.writer, kept.changes) == ("general", {}) and "aten.relu" in kept.outside
    assert set(general.needs) <= set(kept.versions)
    assert kept.layout["output"].startswith(TARGETS[target].layout)
    assert verify(artifact.path).goldens


def _installed(target: str) -> None:
    general = GENERAL[target]
    absent = [module for module in general.needs if find_spec(module) is None]
    if absent:
        pytest.skip(f"{general.name} is not installed: lightseg[{general.extra}]")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=[] if name == "ncnn" else pytest.mark.slow) for name in GENERAL]
)
def test_any_network_goes_there_when_asked_for_plain(
    target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Under another name than our own writers' file, proven like it, and without a warning: it was asked for."""
    require(target)
    _installed(target)
    request = Request(input_size=small_size("sinet"), plain=True)
    artifact = export(lively("sinet"), target, tmp_path, request, reference("sinet"))
    assert not _said(caplog) and artifact.path.name.endswith(f"-plain{TARGETS[target].suffix}")
    kept = read_artifact(artifact.path)
    assert (kept.writer, kept.outside, kept.changes) == ("general", "", {})
    assert verify(artifact.path).goldens


@pytest.mark.filterwarnings("ignore")
def test_what_pnnx_leaves_to_others_is_named(tmp_path: Path) -> None:
    """It writes such a file without a word, and ncnn does not load it."""
    require("ncnn")
    _installed("ncnn")
    request = Request(input_size=small_size("sinet"), output="mask", plain=True)
    with pytest.raises(
        Unsupported, match=r"^pnnx cannot write this network either: it leaves [\w., ]+, which ncnn has not"
    ):
        export(lively("sinet"), "ncnn", tmp_path, request, reference("sinet"))
    assert not list(tmp_path.iterdir())


def test_plain_has_no_rewrites_to_explain_and_one_precision(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--model", "sinet", "--weights", "random", "--to", "onnx", "--plain"]
    assert main([*command, "--precision", "int8", "--calibration", "photos"]) == 1
    assert "--plain" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--explain"])
    assert "--plain" in capsys.readouterr().err


def test_our_own_networks_never_go_there_unasked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require("tflite")
    artifact = export(lively("sinet"), "tflite", tmp_path, Request(input_size=small_size("sinet")), reference("sinet"))
    assert (artifact.writer, artifact.outside) == ("direct", "") and not _said(caplog)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no converter": ("executorch", {}, "executorch has no general converter here; use --to onnx"),
    "precision": ("tflite", {"precision": "fp16"}, "without --precision fp16 only"),
    "dynamic": ("onnx", {"dynamic": True}, "without --dynamic only"),
    "images": ("coreml", {"preprocess": "baked"}, "without --preprocess baked only"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_cannot_do_is_said(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, options, said = REFUSED[what]
    require(target)
    monkeypatch.setattr("lightseg.export.general.find_spec", lambda name: name)
    with pytest.raises(Unsupported, match=said) as caught:
        _export(target, tmp_path, **options)
    assert "aten.relu" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", GENERAL)
def test_one_that_is_not_installed_is_named(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(target)
    monkeypatch.setattr("lightseg.export.general.find_spec", lambda name: None)
    with pytest.raises(Unsupported) as caught:
        _export(target, tmp_path)
    assert f"pip install 'lightseg[{GENERAL[target].extra}]'" in str(caught.value)


def test_a_converters_own_error_becomes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is left of the file."""
    require("onnx")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("torch.onnx.export", fail)
    with pytest.raises(Unsupported, match=r"torch.onnx cannot write this network either: first$"):
        _export("onnx", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_network_as_one_operation_is_the_network() -> None:
    from lightseg.export.general import as_one
    from lightseg.export.graph.shapes import shapes

    model, x = foreign().model, torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, *SIZE)))
    graph = as_one(model, SIZE)
    want = graph(x)
    assert torch.equal(want.float(), graph(x).float()) and torch.allclose(want.float(), model(x.float()), atol=1e-5)
    end = next(n for n in graph.graph.nodes if n.op == "output")
    assert shapes(graph, (1, 3, *SIZE))[end.args[0]] == tuple(want.shape)
