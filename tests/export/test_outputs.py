"""Heads behind, preprocessing in front, any size: what the file answers is what PyTorch would answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.export.artifact import Artifact
from lightseg.export.probes import probe_pack
from lightseg.export.verification import load
from lightseg.images import normalise
from lightseg.spec import RAW
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.subjects import DYNAMIC, SLOW_WRITERS, double, lively, relative, small_size
from tests.export.targets_of import pairs

FP32 = 1e-4
COMBINATIONS = [("probability", "baked"), ("mask", "none")]
"""Each head and each preprocessing once; the slow run takes the other pairs."""
OTHERS = [("logits", "baked"), ("probability", "none"), ("mask", "baked")]
ALL = [*COMBINATIONS, *(pytest.param(*c, marks=pytest.mark.slow) for c in OTHERS)]


@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS))
def test_logits_equal_pytorch(name: str, target: str, exported: Exported) -> None:
    artifact = exported(name, target)
    assert artifact.parity is not None and artifact.parity["ok"]
    x = _pixels(name, "noise")
    assert relative(_answer(artifact, x), _logits(name, x)) <= FP32


@pytest.mark.parametrize(("output", "preprocess"), ALL)
@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS))
def test_heads_and_preprocessing(name: str, target: str, output: str, preprocess: str, exported: Exported) -> None:
    """Against formulas written here, on an image that no probe is."""
    artifact = exported(name, target, output=output, preprocess=preprocess)
    assert artifact.feeds == (RAW if preprocess == "baked" else lively(name).weights.preprocess)
    x = _pixels(name, "mirrored")
    got, logits = _answer(artifact, x), _logits(name, x)
    if output == "mask":
        classes, margin = _classes(name, logits)
        assert got.shape == classes.shape and got.max() <= len(MODELS[name].labels.names) - 1
        np.testing.assert_array_equal(got[margin > 1e-3], classes[margin > 1e-3])
        return
    want = logits if output == "logits" else _probability(name, logits)
    assert np.abs(got - want).max() <= FP32 * max(1.0, float(np.abs(logits).max()))


def _pixels(name: str, probe: str) -> NDArray[np.float32]:
    pack = probe_pack(*small_size(name))
    image = pack["photo"][:, ::-1] if probe == "mirrored" else pack[probe]
    return image.transpose(2, 0, 1)[None].astype(np.float32)


def _answer(artifact: Artifact, pixels: NDArray[np.float32]) -> NDArray[Any]:
    return load(artifact.path)(normalise(pixels, artifact.feeds))


def _logits(name: str, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    x = torch.from_numpy(normalise(pixels, lively(name).weights.preprocess)).double()
    logits: NDArray[np.float64] = double(name)(x).detach().numpy()
    return logits


def _probability(name: str, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if MODELS[name].task == "portrait":
        difference = logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits
        portrait: NDArray[np.float64] = 1 / (1 + np.exp(-difference))
        return portrait
    known = logits[:, : len(MODELS[name].labels.names)]
    known = np.exp(known - known.max(1, keepdims=True))
    shares: NDArray[np.float64] = known / known.sum(1, keepdims=True)
    return shares


def _classes(name: str, logits: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """N×1×H×W class indices, and the distance to the second-best class."""
    known = logits[:, : len(MODELS[name].labels.names)]
    if logits.shape[1] == 1:
        known = np.concatenate([np.zeros_like(logits), logits], 1)
    best = np.sort(known, 1)
    return known.argmax(1)[:, None], (best[:, -1] - best[:, -2])[:, None]


@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS, ["sinet", "sinet_cityscapes"]))
def test_border_is_right_with_preprocessing_inside(name: str, target: str, exported: Exported) -> None:
    """Zero padding means a normalised zero, which is no pixel value: a plain fold is wrong along the border alone."""
    artifact = exported(name, target, preprocess="baked")
    for probe in ("saturated", "noise"):
        x = _pixels(name, probe)
        got, want = _answer(artifact, x), _logits(name, x)
        edge = np.ones(want.shape, bool)
        edge[:, :, 2:-2, 2:-2] = False
        assert np.abs(got - want)[edge].max() <= FP32 * np.abs(want).max()
        assert relative(got, want) <= FP32


@pytest.mark.parametrize("target", DYNAMIC)
@pytest.mark.parametrize("name", MODELS)
def test_dynamic_files_take_other_sizes_and_batches(name: str, target: str, exported: Exported) -> None:
    runner = load(exported(name, target, dynamic=True).path)
    height, width = small_size(name)
    multiple = MODELS[name].multiple
    for size, batch in (((width, height), 1), ((height + multiple, width), 3), ((height, width), 1)):
        pack = list(probe_pack(*size).values())[:batch]
        pixels = np.stack(pack).transpose(0, 3, 1, 2).astype(np.float32)
        x = normalise(pixels, lively(name).weights.preprocess)
        assert relative(runner(x), _logits(name, pixels)) <= FP32


@pytest.mark.parametrize("target", DYNAMIC)
def test_dynamic_with_preprocessing_and_mask_inside(target: str, exported: Exported) -> None:
    artifact = exported("sinet", target, dynamic=True, preprocess="baked", output="mask")
    images = np.stack([probe_pack(128, 64)[k] for k in ("photo", "noise")])
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32)
    classes, margin = _classes("sinet", _logits("sinet", pixels))
    np.testing.assert_array_equal(load(artifact.path)(pixels)[margin > 1e-3], classes[margin > 1e-3])


@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS, ["sinet"]))
def test_static_files_refuse_another_size(name: str, target: str, exported: Exported) -> None:
    runner = load(exported(name, target).path)
    with pytest.raises(BadInput, match="32") as caught:
        runner(np.zeros((1, 3, 32, 32), np.float32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "target"), pairs(SLOW_WRITERS, ["sinet"]))
def test_a_runner_answers_the_same_twice_and_after_another_image(name: str, target: str, exported: Exported) -> None:
    """Buffers live as long as the runner; nothing of one image stays in the next answer."""
    runner = load(exported(name, target).path)
    one, two = (normalise(_pixels(name, p), lively(name).weights.preprocess) for p in ("photo", "noise"))
    first = np.array(runner(one))
    assert np.abs(np.array(runner(two)) - first).max() > 0
    np.testing.assert_array_equal(runner(one), first)


@pytest.mark.parametrize("target", ["onnx"])
def test_onnx_files_pass_its_checker_and_name_their_edges(target: str, exported: Exported) -> None:
    onnx = pytest.importorskip("onnx")
    for options in ({}, {"dynamic": True}, {"output": "mask", "preprocess": "none"}):
        artifact = exported("sinet", target, **options)
        onnx.checker.check_model(str(artifact.path), full_check=True)
        graph = onnx.load(str(artifact.path)).graph
        assert [v.name for v in graph.input] == ["image"]
        assert [v.name for v in graph.output] == [artifact.output]
        names = [n.name for n in graph.node]
        assert len(set(names)) == len(names)


def test_tflite_runs_in_one_partition(exported: Exported, tmp_path: Path) -> None:
    """All on XNNPACK: what falls out of the delegate costs several times as much."""
    for name in MODELS:
        artifact = exported(name, "tflite")
        assert artifact.parity is not None
        assert artifact.parity["runner"]["partitions"] == "1", name
