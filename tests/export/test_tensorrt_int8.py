"""TensorRT in eight bits: grids in the graph, and engines that compute with them or are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.graph.values import exact_values
from lightseg.export.quantization.quantise import quantise, values_to_watch
from lightseg.export.targets import TARGETS, Plan
from lightseg.export.targets.onnx import onnx_bytes
from lightseg.export.tensorrt.artifact import NETWORK, read_build
from lightseg.export.tensorrt.engines import compile_engine
from lightseg.export.tensorrt.interpreter import read_program
from lightseg.export.tensorrt.typed import typed
from tests.export.graph_builder import Builder
from tests.export.subjects import graph_of, images, relative, require
from tests.export.written import ROUNDING, noise, plan_of

MODULE = "tensorrt_rtx"
SHAPE = (1, 4, 8, 8)


@pytest.fixture(autouse=True)
def _installed() -> None:
    require(MODULE)


def in_int8(graph: fx.GraphModule, x: torch.Tensor) -> Plan:
    """``graph`` with every convolution in eight bits, over the ranges that ``x`` has."""
    scheme = TARGETS[MODULE].int8
    assert scheme is not None and scheme.symmetric
    values = exact_values(graph, x) | {"image": x}
    grids = {n: FakeQuantise(float(values[n].abs().max()) / 127, 0) for n in values_to_watch(graph, scheme)}
    return replace(plan_of(quantise(graph, grids, scheme)), precision="int8")


def small() -> tuple[fx.GraphModule, torch.Tensor]:
    b = Builder(SHAPE, seed=1)
    bent = b.call(ops.PReLU(torch.tensor([-1.0, 0.5, 2.0, -0.3, 0.1, 0.7, 1.0, 0.0])), b.call(b.conv(4, 8), b.image))
    return b.finish(b.call(b.conv(8, 4, (3, 3)), bent)), noise(SHAPE)


def onnx_runtime(data: bytes, x: Any) -> Any:
    """A second opinion on the same file, with nothing fused."""
    require("onnx")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": x})[0]


def convolutions(plan: Plan) -> int:
    return sum(isinstance(op, QuantisedConv) for _, op in op_nodes(plan.graph))


def test_the_network_computes_with_the_grids() -> None:
    graph, x = small()
    plan = in_int8(graph, x)
    program = read_program(MODULE, Path("made"), typed(onnx_bytes(plan, signed=True), "int8"))
    kinds = [step.kind for step in program.network.steps]
    assert kinds.count("QUANTIZE") == 2 and kinds.count("DEQUANTIZE") == 4  # two maps, two weights; biases are floats
    assert program.arithmetic.endswith("int8")
    got = program.run(x)
    assert relative(got, plan.graph(x)) <= ROUNDING
    assert relative(got, graph(x)) > 1e-3  # eight bits show


def test_values_below_the_grid_are_cut_off_where_the_simulation_cuts_them_off() -> None:
    """Zero points are zero, and yet −128 is a step: TensorRT cuts off there, other symmetric kernels at −127."""
    graph, x = small()
    plan = in_int8(graph, x)
    program = read_program(MODULE, Path("made"), typed(onnx_bytes(plan, signed=True), "int8"))
    image = next(op for _, op in op_nodes(plan.graph) if isinstance(op, FakeQuantise))
    assert float(image.integers(2 * x).min()) == -128
    assert relative(program.run(2 * x), plan.graph(2 * x)) <= ROUNDING


def test_every_convolution_of_a_network_is_int8_in_the_engine(tmp_path: Path) -> None:
    plan = replace(in_int8(graph_of("sinet"), images("sinet")), capabilities=("portable",))
    TARGETS[MODULE].convert(plan, tmp_path)
    build = read_build(tmp_path)
    assert build.quantised == build.int8_layers == convolutions(plan) > 50
    runner = TARGETS[MODULE].load(tmp_path, 1)
    assert runner.details["int8_layers"] == str(convolutions(plan))
    x = images("sinet").float().numpy()
    off = np.abs(runner(x) - onnx_runtime((tmp_path / NETWORK).read_bytes(), x))
    assert off.mean() < 1e-3 * np.abs(runner(x)).max()  # where rounding meets a tie, a step goes either way and travels


def test_int8_in_name_only_is_refused() -> None:
    """For compute capability 7.5 the compiler turns every convolution back to float, without a word."""
    graph, x = small()
    data = typed(onnx_bytes(in_int8(graph, x), signed=True), "int8")
    assert compile_engine(MODULE, data, "8.6", "x")[1].listing["int8 convolutions"] == 2
    with pytest.raises(
        Unsupported, match=r"computes 0 of 2 int8 convolutions .* for 7\.5: .*int8 in name only"
    ) as caught:
        compile_engine(MODULE, data, "7.5", "x")
    assert "\n" not in str(caught.value)


def test_zero_points_are_refused(tmp_path: Path) -> None:
    """TensorRT's grids are symmetric; the parser says so, and so does the interpreter."""
    graph, x = small()
    plan = in_int8(graph, x)
    next(op for _, op in op_nodes(plan.graph) if isinstance(op, FakeQuantise)).zero_point = 3
    with pytest.raises(Exception, match=r"refuses QuantizeLinear|zero point") as caught:
        TARGETS[MODULE].convert(plan, tmp_path)
        read_program(MODULE, tmp_path, (tmp_path / NETWORK).read_bytes()).run(x)
    assert "\n" not in str(caught.value)
