"""Every kind of layer alone: made through the vendor's own interface, walked, and interpreted beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightseg.errors import BadInput, Unsupported
from lightseg.export.tensorrt.interpreter import Program
from lightseg.export.tensorrt.layers import LAYERS
from lightseg.export.tensorrt.network import ATTRIBUTES, walk
from lightseg.export.tensorrt.vendor import Parsed, Said, logger, vendor
from tests.export.subjects import require

MODULE = "tensorrt_rtx"
SHAPE = (1, 6, 8, 12)
Make = Callable[[Any, Any, Any], Any]
"""From the vendor's module, a network and its input to the last layer."""


@pytest.fixture(autouse=True)
def _installed() -> None:
    require(MODULE)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _array(values: Tensor) -> Any:
    return np.ascontiguousarray(values.numpy())


def _constant(n: Any, values: Tensor) -> Any:
    return n.add_constant(tuple(values.shape), _array(values)).get_output(0)


def program(make: Make, shape: tuple[int, ...] = SHAPE, output: int = 0) -> Program:
    trt, said = vendor(MODULE), Said()
    log = logger(trt, said)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    x = network.add_input("image", trt.float32, shape)
    last = make(trt, network, x)
    assert last is not None, said.errors()
    network.mark_output(last.get_output(output))
    parsed = Parsed(trt, network, builder, said, (log,))
    return Program(Path("made"), walk(parsed, "made"))


W, B = _random(4, 6, 3, 5), _random(4)
DW = _random(6, 1, 3, 3)
TW = _random(6, 4, 2, 2)
SLOPES = torch.linspace(-3.6, 4.8, 6)[None, :, None, None]
SCALES = torch.linspace(0.01, 0.06, 6)
INDEX = torch.tensor([5, 0, -3, 3], dtype=torch.int32)
SIDE = _random(1, 6, 12, 5)


def _conv(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_convolution_nd(x, 4, (3, 5), _array(W), _array(B))
    layer.stride_nd, layer.dilation_nd = (2, 1), (1, 2)
    layer.pre_padding, layer.post_padding = (0, 1), (2, 3)
    return layer


def _depthwise(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_convolution_nd(x, 6, (3, 3), _array(DW))
    layer.num_groups = 6
    return layer


def _deconv(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_deconvolution_nd(x, 4, (2, 2), _array(TW), _array(B))
    layer.stride_nd = (2, 2)
    return layer


def _activation(kind: str, alpha: float = 0.0, beta: float = 0.0) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_activation(x, getattr(trt.ActivationType, kind))
        layer.alpha, layer.beta = alpha, beta
        return layer

    return make


def _pool(kind: str, **attributes: Any) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_pooling_nd(x, getattr(trt.PoolingType, kind), (4, 2))
        for name, value in attributes.items():
            setattr(layer, name, value)
        return layer

    return make


def _shuffle(trt: Any, n: Any, x: Any) -> Any:
    """The channel shuffle, as some writers have it; a nought keeps the size of its axis."""
    layer = n.add_shuffle(x)
    layer.first_transpose = trt.Permutation([0, 2, 3, 1])
    layer.reshape_dims, layer.second_transpose = (0, 96, 3, 2), trt.Permutation([0, 3, 2, 1])
    return layer


def _resize(where: str, *scales: float) -> Make:
    def make(trt: Any, n: Any, x: Any) -> Any:
        layer = n.add_resize(x)
        layer.resize_mode, layer.scales = trt.InterpolationMode.LINEAR, [1, 1, *scales]
        layer.coordinate_transformation = getattr(trt.ResizeCoordinateTransformation, where)
        return layer

    return make


def _binary(kind: str) -> Make:
    return lambda trt, n, x: n.add_elementwise(x, _constant(n, SLOPES + 5), getattr(trt.ElementWiseOperation, kind))


def _unary(kind: str) -> Make:
    return lambda trt, n, x: n.add_unary(x, getattr(trt.UnaryOperation, kind))


def _reduce(kind: str, axes: int, keep: bool) -> Make:
    return lambda trt, n, x: n.add_reduce(x, getattr(trt.ReduceOperation, kind), axes, keep)


def _scale(trt: Any, n: Any, x: Any) -> Any:
    shift, scale = _array(SCALES * 7), _array(SCALES)
    return n.add_scale(x, trt.ScaleMode.CHANNEL, shift, scale, trt.Weights())


def _quantised(n: Any, x: Any, trt: Any, scale: Tensor) -> Any:
    layer = n.add_quantize(x, _constant(n, scale), trt.int8)
    layer.axis = 1
    back = n.add_dequantize(layer.get_output(0), _constant(n, scale), trt.float32)
    back.axis = 1
    return back


def _softmax(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_softmax(x)
    layer.axes = 1 << 1
    return layer


def _axes(n: Any, *axes: int) -> Any:
    return _constant(n, torch.tensor(axes, dtype=torch.int64))


def _matrices(trt: Any, n: Any, x: Any) -> Any:
    transposed = trt.MatrixOperation.TRANSPOSE
    return n.add_matrix_multiply(_constant(n, SIDE), transposed, x, transposed)


def _concat(trt: Any, n: Any, x: Any) -> Any:
    layer = n.add_concatenation([x, _constant(n, _random(1, 2, 8, 12))])
    layer.axis = 1
    return layer


def _uneven(x: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1, 3, 0, 2)), W, B, (2, 1), 0, (1, 2))


def _grid(x: Tensor, scale: Tensor) -> Tensor:
    return torch.round(x / scale).clamp(-128, 127) * scale


LINEAR: dict[str, Any] = {"mode": "bilinear"}
CASES: dict[str, tuple[Make, Callable[[Tensor], Tensor]]] = {
    "convolution": (_conv, _uneven),
    "depthwise": (_depthwise, lambda x: F.conv2d(x, DW, groups=6)),
    "deconvolution": (_deconv, lambda x: F.conv_transpose2d(x, TW, B, 2)),
    "constant": (lambda trt, n, x: n.add_constant((2, 3), _array(_random(2, 3))), lambda x: _random(2, 3)),
    "prelu": (lambda trt, n, x: n.add_parametric_relu(x, _constant(n, SLOPES)), lambda x: F.prelu(x, SLOPES.flatten())),
    "relu": (_activation("RELU"), torch.relu),
    "sigmoid": (_activation("SIGMOID"), torch.sigmoid),
    "tanh": (_activation("TANH"), torch.tanh),
    "leaky": (_activation("LEAKY_RELU", -0.3), lambda x: F.leaky_relu(x, -0.3)),
    "clip": (_activation("CLIP", -0.5, 0.25), lambda x: x.clamp(-0.5, 0.25)),
    "shuffle": (_shuffle, lambda x: x.permute(0, 2, 3, 1).reshape(1, 96, 3, 2).permute(0, 3, 2, 1)),
    "scale": (_scale, lambda x: x * SCALES[:, None, None] + 7 * SCALES[:, None, None]),
    "sum": (_binary("SUM"), lambda x: x + SLOPES + 5),
    "product": (_binary("PROD"), lambda x: x * (SLOPES + 5)),
    "difference": (_binary("SUB"), lambda x: x - (SLOPES + 5)),
    "quotient": (_binary("DIV"), lambda x: x / (SLOPES + 5)),
    "maximum": (_binary("MAX"), lambda x: torch.maximum(x, SLOPES + 5)),
    "minimum": (_binary("MIN"), lambda x: torch.minimum(x, SLOPES + 5)),
    "greater": (_binary("GREATER"), lambda x: x > SLOPES + 5),
    "less": (_binary("LESS"), lambda x: x < SLOPES + 5),
    "absolute": (_unary("ABS"), torch.abs),
    "negative": (_unary("NEG"), torch.neg),
    "exponential": (_unary("EXP"), torch.exp),
    "concat": (_concat, lambda x: torch.cat([x, _random(1, 2, 8, 12)], 1)),
    "corners": (_resize("ALIGN_CORNERS", 2, 3), lambda x: F.interpolate(x, (16, 36), **LINEAR, align_corners=True)),
    "half pixels": (_resize("HALF_PIXEL", 4, 2), lambda x: F.interpolate(x, (32, 24), **LINEAR, align_corners=False)),
    "mean pool": (_pool("AVERAGE", stride_nd=(2, 2)), lambda x: F.avg_pool2d(x, (4, 2), 2)),
    "mean pool, padding counts": (
        _pool("AVERAGE", stride_nd=(2, 2), padding_nd=(1, 1), average_count_excludes_padding=False),
        lambda x: F.avg_pool2d(x, (4, 2), 2, 1),
    ),
    "mean pool, padding does not": (
        _pool("AVERAGE", stride_nd=(2, 2), padding_nd=(1, 1)),
        lambda x: F.avg_pool2d(x, (4, 2), 2, 1, count_include_pad=False),
    ),
    "largest of a window": (_pool("MAX", stride_nd=(2, 2)), lambda x: F.max_pool2d(x, (4, 2), 2)),
    "matrices": (_matrices, lambda x: SIDE.transpose(2, 3) @ x.transpose(2, 3)),
    "softmax": (_softmax, lambda x: torch.softmax(x, 1)),
    "mean": (_reduce("AVG", 0b1100, True), lambda x: x.mean((2, 3), True)),
    "total": (_reduce("SUM", 0b0010, False), lambda x: x.sum(1)),
    "largest": (_reduce("MAX", 0b0010, True), lambda x: x.amax(1, True)),
    "least": (_reduce("MIN", 0b1000, False), lambda x: x.amin(3)),
    "best": (lambda trt, n, x: n.add_topk(x, trt.TopKOperation.MAX, 1, 2), lambda x: x.amax(1, True)),
    "gather": (lambda trt, n, x: n.add_gather(x, _constant(n, INDEX), 1), lambda x: x[:, [5, 0, 3, 3]]),
    "slice": (
        lambda trt, n, x: n.add_slice(x, (0, 1, 0, 2), (1, 3, 8, 5), (1, 2, 1, 2)),
        lambda x: x[:, 1::2, :, 2:12:2],
    ),
    "unsqueeze": (lambda trt, n, x: n.add_unsqueeze(x, _axes(n, 2)), lambda x: x[:, :, None]),
    "squeeze": (lambda trt, n, x: n.add_squeeze(x, _axes(n, 0)), lambda x: x[0]),
    "identity": (lambda trt, n, x: n.add_identity(x), lambda x: x),
    "cast": (lambda trt, n, x: n.add_cast(x, trt.int32), lambda x: x.to(torch.int32)),
    "grid": (lambda trt, n, x: _quantised(n, x, trt, torch.tensor(0.01)), lambda x: _grid(x, torch.tensor(0.01))),
    "grid by channel": (
        lambda trt, n, x: _quantised(n, x, trt, SCALES),
        lambda x: _grid(x, SCALES[:, None, None]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_layer_is_what_it_is_in_pytorch(case: str) -> None:
    make, want = CASES[case]
    x = 3 * _random(*SHAPE)
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

    x = 4 * _random(*SHAPE)
    assert torch.equal(program(make).run(x), x.half().float().exp().half().float())
    assert torch.isinf(program(make).run(x + 20)).any()  # beyond float16's range
    assert torch.isfinite(program(make).run(x + 20, rounding=False)).all()


REFUSED: dict[str, tuple[Make, str]] = {
    "a kind nobody knows": (
        lambda trt, n, x: n.add_cumulative(x, _constant(n, torch.tensor(1, dtype=torch.int64)),
                                           trt.CumulativeOperation.SUM, False, False),
        "the layer CUMULATIVE .* is outside",
    ),
    "an activation": (_activation("ELU", 1.0), "ACTIVATION .*: type ELU is outside"),
    "rounding": (_unary("ROUND"), "UNARY .*: op ROUND"),
    "corners of nothing": (_resize("ASYMMETRIC", 2, 2), "coordinate_transformation ASYMMETRIC"),
    "more than the best": (lambda trt, n, x: n.add_topk(x, trt.TopKOperation.MAX, 2, 2), "more than one value"),
    "padding after the fact": (
        lambda trt, n, x: _padded(_conv(trt, n, x), trt.PaddingMode.SAME_UPPER), "padding_mode SAME_UPPER",
    ),
}  # fmt: skip


def _padded(layer: Any, mode: Any) -> Any:
    layer.padding_mode = mode
    return layer


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_outside_the_set_is_refused_by_name(what: str) -> None:
    make, said = REFUSED[what]
    with pytest.raises(Unsupported, match=said) as caught:
        program(make).run(_random(*SHAPE))
    assert "\n" not in str(caught.value)


def test_a_wrong_size_is_one_line() -> None:
    with pytest.raises(BadInput, match="declared is"):
        program(_pool("AVERAGE")).run(_random(1, 6, 16, 12))
