"""Every kind of layer alone: made through the vendor's own interface, walked, and interpreted beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightseg.errors import BadInput, Unsupported
from lightseg.export.tensorrt.layers import LAYERS
from lightseg.export.tensorrt.network import ATTRIBUTES
from tests.export.subjects import require
from tests.export.tensorrt_layers import (
    DW,
    INDEX,
    MODULE,
    SCALES,
    SHAPE,
    SIDE,
    SLOPES,
    TW,
    B,
    Make,
    W,
    activation,
    array,
    axes,
    binary,
    concat,
    constant,
    conv,
    deconv,
    depthwise,
    matrices,
    pool,
    program,
    quantised,
    reduce,
    resize,
    scale,
    seeded,
    shuffle,
    softmax,
    unary,
)


@pytest.fixture(autouse=True)
def _installed() -> None:
    require(MODULE)


def _uneven(x: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1, 3, 0, 2)), W, B, (2, 1), 0, (1, 2))


def _grid(x: Tensor, scale: Tensor) -> Tensor:
    return torch.round(x / scale).clamp(-128, 127) * scale


LINEAR: dict[str, Any] = {"mode": "bilinear"}
CASES: dict[str, tuple[Make, Callable[[Tensor], Tensor]]] = {
    "convolution": (conv, _uneven),
    "depthwise": (depthwise, lambda x: F.conv2d(x, DW, groups=6)),
    "deconvolution": (deconv, lambda x: F.conv_transpose2d(x, TW, B, 2)),
    "constant": (lambda trt, n, x: n.add_constant((2, 3), array(seeded(2, 3))), lambda x: seeded(2, 3)),
    "prelu": (lambda trt, n, x: n.add_parametric_relu(x, constant(n, SLOPES)), lambda x: F.prelu(x, SLOPES.flatten())),
    "relu": (activation("RELU"), torch.relu),
    "sigmoid": (activation("SIGMOID"), torch.sigmoid),
    "tanh": (activation("TANH"), torch.tanh),
    "leaky": (activation("LEAKY_RELU", -0.3), lambda x: F.leaky_relu(x, -0.3)),
    "clip": (activation("CLIP", -0.5, 0.25), lambda x: x.clamp(-0.5, 0.25)),
    "shuffle": (shuffle, lambda x: x.permute(0, 2, 3, 1).reshape(1, 96, 3, 2).permute(0, 3, 2, 1)),
    "scale": (scale, lambda x: x * SCALES[:, None, None] + 7 * SCALES[:, None, None]),
    "sum": (binary("SUM"), lambda x: x + SLOPES + 5),
    "product": (binary("PROD"), lambda x: x * (SLOPES + 5)),
    "difference": (binary("SUB"), lambda x: x - (SLOPES + 5)),
    "quotient": (binary("DIV"), lambda x: x / (SLOPES + 5)),
    "maximum": (binary("MAX"), lambda x: torch.maximum(x, SLOPES + 5)),
    "minimum": (binary("MIN"), lambda x: torch.minimum(x, SLOPES + 5)),
    "greater": (binary("GREATER"), lambda x: x > SLOPES + 5),
    "less": (binary("LESS"), lambda x: x < SLOPES + 5),
    "absolute": (unary("ABS"), torch.abs),
    "negative": (unary("NEG"), torch.neg),
    "exponential": (unary("EXP"), torch.exp),
    "concat": (concat, lambda x: torch.cat([x, seeded(1, 2, 8, 12)], 1)),
    "corners": (resize("ALIGN_CORNERS", 2, 3), lambda x: F.interpolate(x, (16, 36), **LINEAR, align_corners=True)),
    "half pixels": (resize("HALF_PIXEL", 4, 2), lambda x: F.interpolate(x, (32, 24), **LINEAR, align_corners=False)),
    "mean pool": (pool("AVERAGE", stride_nd=(2, 2)), lambda x: F.avg_pool2d(x, (4, 2), 2)),
    "mean pool, padding counts": (
        pool("AVERAGE", stride_nd=(2, 2), padding_nd=(1, 1), average_count_excludes_padding=False),
        lambda x: F.avg_pool2d(x, (4, 2), 2, 1),
    ),
    "mean pool, padding does not": (
        pool("AVERAGE", stride_nd=(2, 2), padding_nd=(1, 1)),
        lambda x: F.avg_pool2d(x, (4, 2), 2, 1, count_include_pad=False),
    ),
    "largest of a window": (pool("MAX", stride_nd=(2, 2)), lambda x: F.max_pool2d(x, (4, 2), 2)),
    "matrices": (matrices, lambda x: SIDE.transpose(2, 3) @ x.transpose(2, 3)),
    "softmax": (softmax, lambda x: torch.softmax(x, 1)),
    "mean": (reduce("AVG", 0b1100, True), lambda x: x.mean((2, 3), True)),
    "total": (reduce("SUM", 0b0010, False), lambda x: x.sum(1)),
    "largest": (reduce("MAX", 0b0010, True), lambda x: x.amax(1, True)),
    "least": (reduce("MIN", 0b1000, False), lambda x: x.amin(3)),
    "best": (lambda trt, n, x: n.add_topk(x, trt.TopKOperation.MAX, 1, 2), lambda x: x.amax(1, True)),
    "gather": (lambda trt, n, x: n.add_gather(x, constant(n, INDEX), 1), lambda x: x[:, [5, 0, 3, 3]]),
    "slice": (
        lambda trt, n, x: n.add_slice(x, (0, 1, 0, 2), (1, 3, 8, 5), (1, 2, 1, 2)),
        lambda x: x[:, 1::2, :, 2:12:2],
    ),
    "unsqueeze": (lambda trt, n, x: n.add_unsqueeze(x, axes(n, 2)), lambda x: x[:, :, None]),
    "squeeze": (lambda trt, n, x: n.add_squeeze(x, axes(n, 0)), lambda x: x[0]),
    "identity": (lambda trt, n, x: n.add_identity(x), lambda x: x),
    "cast": (lambda trt, n, x: n.add_cast(x, trt.int32), lambda x: x.to(torch.int32)),
    "grid": (lambda trt, n, x: quantised(n, x, trt, torch.tensor(0.01)), lambda x: _grid(x, torch.tensor(0.01))),
    "grid by channel": (
        lambda trt, n, x: quantised(n, x, trt, SCALES),
        lambda x: _grid(x, SCALES[:, None, None]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_what_it_is_in_pytorch(case: str) -> None:
    make, want = CASES[case]
    x = 3 * seeded(*SHAPE)
    got = program(make).run(x)
    assert got.dtype == want(x).dtype
    torch.testing.assert_close(got, want(x), rtol=3e-5, atol=3e-5)


def test_every_kind_has_a_case() -> None:
    kinds = {step.kind for make, _ in CASES.values() for step in program(make).network.steps}
    assert kinds == set(LAYERS) == set(ATTRIBUTES)


def test_the_index_of_the_best_is_the_first() -> None:
    x = torch.zeros(SHAPE)
    x[:, 3:] = 1
    make: Make = lambda trt, n, x: n.add_topk(x, trt.TopKOperation.MAX, 1, 2)  # noqa: E731
    got = program(make, output=1).run(x)
    assert got.dtype == torch.int32 and bool((got == 3).all())


def test_halves_are_rounded_after_every_layer() -> None:
    def make(trt: Any, n: Any, x: Any) -> Any:
        half = n.add_cast(x, trt.float16).get_output(0)
        return n.add_cast(n.add_unary(half, trt.UnaryOperation.EXP).get_output(0), trt.float32)

    x = 4 * seeded(*SHAPE)
    assert torch.equal(program(make).run(x), x.half().float().exp().half().float())
    assert torch.isinf(program(make).run(x + 20)).any()  # beyond float16's range
    assert torch.isfinite(program(make).run(x + 20, rounding=False)).all()


REFUSED: dict[str, tuple[Make, str]] = {
    "a kind nobody knows": (
        lambda trt, n, x: n.add_cumulative(x, constant(n, torch.tensor(1, dtype=torch.int64)),
                                           trt.CumulativeOperation.SUM, False, False),
        "the layer CUMULATIVE .* is outside",
    ),
    "an activation": (activation("ELU", 1.0), "ACTIVATION .*: type ELU is outside"),
    "rounding": (unary("ROUND"), "UNARY .*: op ROUND"),
    "corners of nothing": (resize("ASYMMETRIC", 2, 2), "coordinate_transformation ASYMMETRIC"),
    "more than the best": (lambda trt, n, x: n.add_topk(x, trt.TopKOperation.MAX, 2, 2), "more than one value"),
    "padding after the fact": (
        lambda trt, n, x: _padded(conv(trt, n, x), trt.PaddingMode.SAME_UPPER), "padding_mode SAME_UPPER",
    ),
}  # fmt: skip


def _padded(layer: Any, mode: Any) -> Any:
    layer.padding_mode = mode
    return layer


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_outside_the_set_is_refused_by_name(what: str) -> None:
    make, said = REFUSED[what]
    with pytest.raises(Unsupported, match=said) as caught:
        program(make).run(seeded(*SHAPE))
    assert "\n" not in str(caught.value)


def test_a_wrong_size_is_one_line() -> None:
    with pytest.raises(BadInput, match="declared is"):
        program(pool("AVERAGE")).run(seeded(1, 6, 16, 12))
