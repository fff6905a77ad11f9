"""Every operation alone: written, saved, read back, and run by the interpreter beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.quantised import QUANTISED, FakeQuantise, QuantisedConv
from lightseg.export.mil.interpreter import Program, read_program
from lightseg.export.mil.package import int8_convolutions
from lightseg.export.writers import mil
from tests.export.subjects import require

SHAPE = (1, 6, 8, 12)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _graph(op: nn.Module, inputs: int = 1) -> fx.GraphModule:
    """The operation on the image, and on the image's first parts where it takes several values."""
    root, graph = nn.Module(), fx.Graph()
    root.add_module("first", ops.Conv(_random(6, 6, 1, 1)))
    root.add_module("op", op.double())
    image = graph.placeholder("image")
    others = [graph.call_module("first", (image,)) for _ in range(inputs - 1)]
    graph.output(graph.call_module("op", (image, *others)))
    return fx.GraphModule(root, graph)


def _gate() -> fx.GraphModule:
    """image · mean(image): a product with one number per channel."""
    root, graph = nn.Module(), fx.Graph()
    root.add_module("mean", ops.GlobalMean())
    root.add_module("op", ops.Mul())
    image = graph.placeholder("image")
    graph.output(graph.call_module("op", (image, graph.call_module("mean", (image,)))))
    return fx.GraphModule(root, graph)


SLOPES = torch.linspace(-3.6, 4.8, 6, dtype=torch.float64)
CASES: dict[str, fx.GraphModule] = {
    "conv": _graph(ops.Conv(_random(5, 6, 1, 1), _random(5))),
    "conv_pad": _graph(ops.Conv(_random(5, 6, 3, 5), None, (1, 1), (1, 2))),
    "conv_stride": _graph(ops.Conv(_random(5, 6, 3, 3), _random(5), (2, 2), (1, 1))),
    "conv_dilation": _graph(ops.Conv(_random(5, 6, 3, 3), _random(5), (1, 1), (2, 3), (2, 3))),
    "conv_uneven": _graph(ops.Conv(_random(5, 6, 2, 3), _random(5), (2, 1), (0, 1))),
    "conv_groups": _graph(ops.Conv(_random(4, 3, 1, 1), _random(4), groups=2)),
    "conv_depthwise": _graph(ops.Conv(_random(6, 1, 7, 1), None, (1, 1), (3, 0), groups=6)),
    "conv_multiplier": _graph(ops.Conv(_random(12, 1, 3, 3), _random(12), (1, 1), (1, 1), groups=6)),
    "deconv": _graph(ops.Deconv(_random(6, 4, 2, 2), _random(4))),
    "deconv_bare": _graph(ops.Deconv(_random(6, 3, 3, 3))),
    "affine": _graph(ops.Affine(_random(6), _random(6) + 3)),
    "affine_scale": _graph(ops.Affine(_random(6), torch.zeros(6))),
    "affine_shift": _graph(ops.Affine(torch.ones(6), _random(6))),
    "affine_nothing": _graph(ops.Affine(torch.ones(6), torch.zeros(6))),
    "prelu": _graph(ops.PReLU(SLOPES)),
    "prelu_equal": _graph(ops.PReLU(torch.full((6,), -0.5))),
    "concat": _graph(ops.Concat(), 3),
    "add": _graph(ops.Add(), 2),
    "mul": _graph(ops.Mul(), 2),
    "mul_gate": _gate(),
    "avg_pool": _graph(ops.AvgPool(4)),
    "global_mean": _graph(ops.GlobalMean()),
    "upsample_corners": _graph(ops.Upsample(2, True)),
    "upsample_half_pixel": _graph(ops.Upsample(4, False)),
    "permute_shuffle": _graph(ops.Permute(torch.tensor([0, 3, 1, 4, 2, 5]))),
    "permute_shuffle_back": _graph(ops.Permute(torch.tensor([0, 2, 4, 1, 3, 5]))),
    "permute_any": _graph(ops.Permute(torch.tensor([5, 0, 3, 3, 1, 2, 4]))),
    "softmax": _graph(ops.Softmax()),
    "max_channel": _graph(ops.MaxChannel()),
    "sigmoid": _graph(ops.Sigmoid()),
    "abs": _graph(ops.Abs()),
    "positives": _graph(ops.Positives()),
    "negatives": _graph(ops.Negatives()),
    "depth_to_space": _graph(ops.DepthToSpace(2)),
    "first_channels": _graph(ops.FirstChannels(4)),
    "arg_max": _graph(ops.ArgMax()),
    "positive": _graph(ops.Positive()),
}
IMAGE = "from_image"
"""The one operation that is not between N×C×H×W numbers."""


def _input(name: str) -> Tensor:
    shape = (1, 8, 8, 12) if name == "depth_to_space" else SHAPE
    return _random(*shape)


def _saved(graph: fx.GraphModule, shape: tuple[int, ...], folder: Path, **options: Any) -> Program:
    require("coreml")
    mil.write_mil(graph, shape, "out", folder / "a.mlpackage", **options)
    return read_program(folder / "a.mlpackage")


def test_every_operation_has_a_writer_and_a_case() -> None:
    assert set(mil.WRITERS) == set(ops.OPS) | set(QUANTISED)
    tried = {type(m) for g in CASES.values() for m in g.children()}
    assert tried | {ops.FromImage} == set(ops.OPS)


@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch(name: str, tmp_path: Path) -> None:
    x = _input(name)
    want = CASES[name](x)
    program = _saved(CASES[name], tuple(x.shape), tmp_path)
    assert not program.is_float16
    torch.testing.assert_close(program.run(x, torch.float64).double(), want.double(), rtol=3e-6, atol=3e-6)
    single = program.run(x)
    assert single.dtype in (torch.float32, torch.int32)
    torch.testing.assert_close(single.double(), want.double(), rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("name", CASES)
def test_float16_rounds_every_value(name: str, tmp_path: Path) -> None:
    x = _input(name)
    program = _saved(CASES[name], tuple(x.shape), tmp_path, half=True)
    got, exact = program.run(x), CASES[name](x.half().double())
    assert program.is_float16
    if got.is_floating_point():
        assert torch.equal(got, got.half().float())
    torch.testing.assert_close(got.double(), exact.double(), rtol=1e-2, atol=3e-2)


def test_images_arrive_as_planes_of_red_green_and_blue(tmp_path: Path) -> None:
    root, graph = nn.Module(), fx.Graph()
    root.add_module("pixels", ops.FromImage())
    root.add_module("order", ops.Conv(_random(3, 3, 1, 1)))
    image = graph.placeholder("image")
    graph.output(graph.call_module("order", (graph.call_module("pixels", (image,)),)))
    module = fx.GraphModule(root, graph)
    program = _saved(module, (1, 3, 4, 6), tmp_path)
    pixels = torch.randint(0, 256, (1, 4, 6, 3), dtype=torch.uint8)
    assert program.takes_images
    got = program.run(pixels.permute(0, 3, 1, 2), torch.float64)
    torch.testing.assert_close(got, module(pixels), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 6])
def test_int8_is_the_simulation_s_to_the_step(groups: int, tmp_path: Path) -> None:
    root, graph = nn.Module(), fx.Graph()
    grid = FakeQuantise(0.011, -37)
    conv = ops.Conv(_random(12, 6 // groups, 3, 3), _random(12), padding=(1, 1), groups=groups).double()
    for name, op in (("grid", grid), ("op", QuantisedConv(conv, grid.scale)), ("after", FakeQuantise(0.07, 5))):
        root.add_module(name, op)
    value = graph.placeholder("image")
    for name in ("grid", "op", "after"):
        value = graph.call_module(name, (value,))
    graph.output(value)
    module, x = fx.GraphModule(root, graph), _random(*SHAPE)
    program = _saved(module, SHAPE, tmp_path, deployment=mil.INT8_DEPLOYMENT)
    assert int8_convolutions(tmp_path / "a.mlpackage") == 1
    assert [step.kind for step in program.steps] == ["quantize", "dequantize", "conv", "quantize", "dequantize"]
    torch.testing.assert_close(program.run(x, torch.float64).double(), module(x), rtol=1e-6, atol=1e-6)
    integers = torch.round(program.run(x).double() / 0.07)
    assert (integers - torch.round(module(x) / 0.07)).abs().max() <= 1


def test_a_range_core_ml_would_not_clip_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="-127…127"):
        _saved(_graph(FakeQuantise(0.1, 0, -127, 127)), SHAPE, tmp_path, deployment=mil.INT8_DEPLOYMENT)


def test_a_weight_beyond_float16_is_refused_with_its_number(tmp_path: Path) -> None:
    graph = _graph(ops.Conv(torch.full((2, 6, 1, 1), 124384.0)))
    with pytest.raises(Unsupported, match=r"op has a weight of 124384, beyond the 65504 that float16 holds.*fp32"):
        _saved(graph, SHAPE, tmp_path, half=True)


def test_overflow_shows_as_it_would_in_float16(tmp_path: Path) -> None:
    program = _saved(_graph(ops.Affine(torch.full((6,), 60001.0), torch.zeros(6))), SHAPE, tmp_path, half=True)
    x = torch.full(SHAPE, 2.0)
    assert program.run(x).isinf().all()
    assert program.run(x, torch.float64, rounding=False).max() == 120000.0  # 60001 is no float16, 60000 is


@pytest.mark.parametrize("deployment", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("half", [False, True])
def test_later_deployment_targets_mean_the_same(deployment: str, half: bool, tmp_path: Path) -> None:
    root, graph = nn.Module(), fx.Graph()
    value = graph.placeholder("image")
    chain = [
        ops.Conv(_random(6, 6, 3, 3), _random(6), (2, 2), (1, 1)),
        ops.PReLU(SLOPES),
        ops.Affine(_random(6), _random(6)),
        ops.Upsample(2, False),
        ops.AvgPool(2),
        ops.Upsample(2, True),
        ops.Permute(torch.tensor([5, 0, 3, 1, 2, 4])),
        ops.Permute(torch.tensor([0, 3, 1, 4, 2, 5])),
        ops.Deconv(_random(6, 4, 2, 2)),
        ops.Softmax(),
        ops.FirstChannels(3),
    ]
    for i, op in enumerate(chain):
        root.add_module(f"op{i}", op.double())
        value = graph.call_module(f"op{i}", (value,))
    graph.output(value)
    module = fx.GraphModule(root, graph)
    x = _random(*SHAPE)
    got = _saved(module, SHAPE, tmp_path, half=half, deployment=deployment).run(x)
    torch.testing.assert_close(got.double(), module(x), rtol=0, atol=2e-2 if half else 1e-5)


NORM = {k: np.array([v], np.float32) for k, v in {"mean": 1, "variance": 3, "gamma": 4, "beta": 5}.items()}
Build = Callable[[Any, Any], Any]
DOCUMENTED: dict[str, tuple[list[Any], Build, list[Any]]] = {
    "upsample without corners": (
        [[[[0.0, 1.0]]]],
        lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_width=3.0, align_corners=False),
        [[[[0, 0, 1 / 3, 2 / 3, 1, 1]]]],
    ),
    "upsample with corners": (
        [[[[0.0, 1.0]]]],
        lambda mb, x: mb.upsample_bilinear(x=x, scale_factor_width=3.0),
        [[[[0, 0.2, 0.4, 0.6, 0.8, 1]]]],
    ),
    "depth to space, channel fastest": (
        [[[[float(c)]] for c in range(8)]],
        lambda mb, x: mb.depth_to_space(x=x, block_size=2),
        [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]],
    ),
    "mean with the padding counted": (
        [[[[4.0, 8.0]]]],
        lambda mb, x: mb.avg_pool(x=x, kernel_sizes=[1, 2], strides=[1, 2], pad_type="custom", pad=[0, 0, 1, 1]),
        [[[[2, 4]]]],
    ),
    "mean with the padding left out": (
        [[[[4.0, 8.0]]]],
        lambda mb, x: mb.avg_pool(
            x=x,
            kernel_sizes=[1, 2],
            strides=[1, 2],
            pad_type="custom",
            pad=[0, 0, 1, 1],
            exclude_padding_from_average=True,
        ),
        [[[[4, 8]]]],
    ),
    "a zero in a reshape copies": (
        [[[[1.0, 2.0], [3.0, 4.0]]]],
        lambda mb, x: mb.reshape(x=x, shape=[0, 2, 2, 1]),
        [[[[1], [2]], [[3], [4]]]],
    ),
    "negative axes": (
        [[[[1.0, 5.0], [3.0, 4.0]]]],
        lambda mb, x: mb.reduce_max(x=x, axes=[-1], keep_dims=True),
        [[[[5], [4]]]],
    ),
    "padding is top, bottom, left, right": (
        [[[[1.0, 2.0]]]],
        lambda mb, x: mb.conv(x=x, weight=np.ones((1, 1, 1, 1), np.float32), pad_type="custom", pad=[1, 0, 0, 2]),
        [[[[0, 0, 0, 0], [1, 2, 0, 0]]]],
    ),
    "batch norm with its eps": (
        [[[[3.0]]]],
        lambda mb, x: mb.batch_norm(x=x, epsilon=1.0, **NORM),
        [[[[9]]]],
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_means_what_the_format_documents(name: str, tmp_path: Path) -> None:
    require("coreml")
    import coremltools as ct
    from coremltools.converters.mil import Builder

    values, build, want = DOCUMENTED[name]
    x = np.array(values, np.float32)
    with mil.quiet():

        @Builder.program(input_specs=[Builder.TensorSpec(shape=x.shape)], opset_version=ct.target.iOS15)  # type: ignore[untyped-decorator]
        def program(image: Any) -> Any:
            return build(Builder, image)

        model = ct.convert(
            program,
            convert_to="mlprogram",
            pass_pipeline=ct.PassPipeline([]),
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target.iOS15,
            skip_model_load=True,
        )
        model.save(str(tmp_path / "a.mlpackage"))
    got = read_program(tmp_path / "a.mlpackage").run(torch.from_numpy(x))
    np.testing.assert_allclose(got.numpy(), np.array(want, np.float32), atol=1e-6)
