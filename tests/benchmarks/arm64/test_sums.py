"""Float16 sums: each product added as the processor adds it, and what that does to the five networks."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightseg.benchmarks.arm64.sums import SummedGraph, for_float16_sums, summed, to_float16
from lightseg.export import export
from lightseg.export.answers import distance, prepared
from lightseg.export.graph import ops
from lightseg.export.graph.capture import capture
from lightseg.export.parity import ROUNDING, TOLERANCE
from lightseg.export.probes import probe_pack
from lightseg.export.record import read_artifact
from lightseg.export.rewrites import rewrite
from lightseg.export.runner import torch_runner
from lightseg.export.targets import TARGETS
from lightseg.images import read_photo, resize
from lightseg.predict import mask_from_logits
from lightseg.zoo import MODELS, create_model

ASK = ("tflite", "ncnn")


def halves(*shape: int, seed: int = 0) -> torch.Tensor:
    return to_float16(torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)))


def by_hand(weight: np.ndarray, bias: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """One output pixel: O×I×k×k times I×k×k, each sum a float16; float64 holds product and sum exactly."""
    total = bias.astype(np.float16)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            for channel in range(weight.shape[1]):
                product = weight[:, channel, row, column].astype(np.float64) * patch[channel, row, column]
                total = (total.astype(np.float64) + product).astype(np.float16)
    return total


def test_each_sum_is_rounded_as_a_float16() -> None:
    weight, bias, x = halves(3, 5, 3, 3), halves(3, seed=1), halves(1, 5, 3, 3, seed=2)
    got = summed(ops.Conv(weight, bias), x, to_float16)
    assert np.array_equal(got[0, :, 0, 0].numpy(), by_hand(weight.numpy(), bias.numpy(), x[0].numpy()))
    exact = ops.Conv(weight, bias)(x)
    assert not torch.equal(to_float16(exact), got), "or the test would say nothing"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(1, 1), (3, 3), (1, 5), (3, 2)]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.booleans(),
)
def test_unrounded_it_is_the_convolution(
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    biased: bool,
) -> None:
    conv = ops.Conv(halves(8, 8 // groups, *kernel), halves(8) if biased else None, stride, padding, dilation, groups)
    x = halves(2, 8, 11, 12, seed=3)
    torch.testing.assert_close(summed(conv, x, lambda t: t), conv(x), rtol=1e-4, atol=1e-4)


def test_transposed_convolutions_add_too() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = ops.Deconv(halves(16, 4, 2, 2), halves(4, seed=1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.up(x)
            return y

    class Whole(torch.fx.Tracer):
        def is_leaf_module(self, m: torch.nn.Module, name: str) -> bool:
            return True

    net = Net()
    graph, x = torch.fx.GraphModule(net, Whole().trace(net)), halves(1, 16, 5, 6, seed=2)
    torch.testing.assert_close(SummedGraph(graph).logits(x), net(x), rtol=5e-3, atol=5e-3)
    assert not torch.equal(SummedGraph(graph, to_float16).logits(x), to_float16(net(x)))


def survives(name: str, target: str, image: np.ndarray) -> None:
    """As ARM's kernels add, in float16's own range: nothing overflows, and the classes stay."""
    model = create_model(name)
    height, width = image.shape[:2]
    graph, x = capture(model, height, width, model.spec.multiple), prepared(image, model.weights.preprocess)
    want = torch_runner(copy.deepcopy(graph), double=True)(x)
    rewrite(graph, TARGETS[target].rewrites())
    got = SummedGraph(graph, to_float16).logits(torch.from_numpy(x)).numpy()
    assert np.isfinite(got).all()
    off = distance(got, want)
    assert 1e-3 < off.largest < 0.05 and off.mean < 0.005, "of the largest logit; measured 0.016 to 0.035"
    same = mask_from_logits(got, model.spec.labels) == mask_from_logits(want, model.spec.labels)
    assert same.mean() >= TOLERANCE["fp16"]["agreement"]


@pytest.mark.parametrize("target", ASK)
@pytest.mark.parametrize("name", [s.name for s in MODELS.values() if s.task == "portrait"])
def test_portraits_survive_float16_arithmetic(name: str, target: str) -> None:
    survives(f"{name}.lightseg", target, probe_pack(224, 224)["scene"])


@pytest.mark.slow
@pytest.mark.parametrize("target", ASK)
@pytest.mark.parametrize("name", [s.name for s in MODELS.values() if s.task == "street"])
def test_streets_survive_float16_arithmetic(name: str, target: str, shared: Path, released: Path) -> None:
    photograph = min((shared / "data" / "street_val" / "images").iterdir())
    survives(name, target, resize(read_photo(photograph), (384, 512)))


@pytest.mark.parametrize("target", ASK)
def test_the_limits_allow_what_float16_sums_do_and_no_more(target: str, tmp_path: Path) -> None:
    for reason in (TARGETS[target].why_not_convert(), TARGETS[target].why_not_load()):
        if reason:
            pytest.skip(reason)
    made = export(create_model("sinet.lightseg"), target, tmp_path, precision="fp16", input_size=(64, 64))
    artifact = read_artifact(made.path)
    for before, after in zip(artifact.golden, for_float16_sums(artifact).golden, strict=True):
        assert before.largest < after.largest < TOLERANCE["fp16"]["relative"] + ROUNDING * 0.1
        assert before.mean < after.mean and before.ties <= after.ties < after.mask.size / 4
        assert np.array_equal(before.samples, after.samples) and np.array_equal(before.mask, after.mask)
