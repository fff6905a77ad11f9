"""The runner of every program on every place, with a made-up GPU."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightseg.benchmarks.cuda import programs
from lightseg.benchmarks.cuda.place import Cpu, place, require_cuda, set_tf32
from lightseg.benchmarks.cuda.programs import TorchProgram
from lightseg.benchmarks.cuda.runner import BEFORE_RECORDING, PlacedRunner
from lightseg.errors import BadInput, Unsupported
from tests.benchmarks.cuda.conftest import FakeGpu

SHAPE = (2, 3, 8, 8)


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def program(network: nn.Module, **options: Any) -> TorchProgram:
    return TorchProgram(cast(Any, network), SHAPE, Cpu(), **options)


def answer(network: nn.Module, x: Any) -> Any:
    with torch.inference_mode():
        return network(torch.from_numpy(x)).numpy()


def test_one_clear_line_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="sees no CUDA device here; run it on a machine with an NVIDIA GPU"):
        require_cuda()


def test_a_processor_has_no_clock_and_no_graphs(network: nn.Module) -> None:
    runner = PlacedRunner(program(network), place("cpu"))
    np.testing.assert_array_equal(runner(image(0)), answer(network, image(0)))
    assert runner.device_ns is None and runner.copies_ns is None and runner.state() == {}
    with pytest.raises(Unsupported, match="--device cuda"):
        PlacedRunner(program(network), place("cpu"), graph=True)(image(0))


@pytest.mark.parametrize("graph", [False, True])
def test_a_gpu_is_timed_by_its_own_clock(graph: bool, network: nn.Module, gpu: FakeGpu) -> None:
    runner = PlacedRunner(program(network), gpu, graph)
    for seed in (0, 1, 0):
        np.testing.assert_array_equal(runner(image(seed)), answer(network, image(seed)))
    assert runner.device_ns is not None and runner.device_ns() == 5
    assert runner.copies_ns is not None and runner.copies_ns() == (5, 5)
    assert runner.details["device"] == "fake" and runner.details["runtime"] == "torch"
    assert gpu.said.count("begin") == gpu.said.count("end") == 9
    assert gpu.said.count("record") == graph and gpu.said.count("replay") == 3 * graph


def test_only_the_run_lies_between_the_marks(network: nn.Module, gpu: FakeGpu) -> None:
    runner = PlacedRunner(program(network), gpu)
    runner.feed(image(0))
    gpu.said.clear()
    runner.run()
    assert gpu.said == ["begin", "end"]


def test_a_graph_is_recorded_after_quiet_runs(
    network: nn.Module, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, runs = program(network), 0
    launch = made.launch

    def counted() -> Tensor:
        nonlocal runs
        runs += 1
        gpu.said.append("launch")
        return launch()

    monkeypatch.setattr(made, "launch", counted)
    PlacedRunner(made, gpu, graph=True)(image(0))
    before = gpu.said.index("record")
    assert gpu.said[:before].count("launch") == BEFORE_RECORDING
    assert gpu.said[before - 1] == "wait"


def test_what_cannot_be_recorded_says_so(network: nn.Module, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(network)
    monkeypatch.setattr(made, "recordable", lambda: False)
    with pytest.raises(Unsupported, match="--graphs off"):
        PlacedRunner(made, gpu, graph=True)(image(0))
    assert "record" not in gpu.said


def test_another_size_is_one_line(network: nn.Module) -> None:
    with pytest.raises(BadInput, match="takes 2x3x8x8, not 1x3x8x8"):
        PlacedRunner(program(network), Cpu())(image(0, (1, 3, 8, 8)))


def test_half_precision_is_of_weights_and_values(network: nn.Module) -> None:
    want = answer(network, image(0))
    made = program(network, precision="fp16")
    runner = PlacedRunner(made, Cpu())
    got = runner(image(0))
    assert got.dtype == np.float32 and made.input.dtype == torch.float16
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
    assert runner.details["element type"] == "float16"
    off = np.abs(got - want).max() / np.abs(want).max()
    assert 0 < off < 5e-3


@pytest.mark.parametrize(("precision", "says"), [("fp32", "matmul off, conv off"), ("tf32", "matmul on, conv on")])
def test_tf32_is_what_the_row_says(precision: str, says: str, network: nn.Module) -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        assert program(network, precision=precision).details["tf32"] == says
        assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert set_tf32(False) == "matmul off, conv off"


def test_compiled_is_whole_and_of_one_shape(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def compiler(module: nn.Module, **options: Any) -> nn.Module:
        asked.update(options)
        return module

    monkeypatch.setattr(torch, "compile", compiler)
    runner = PlacedRunner(program(network, compiled=True), Cpu())
    np.testing.assert_array_equal(runner(image(0)), answer(network, image(0)))
    assert asked == {"fullgraph": True, "dynamic": False}
    assert runner.name == "torch.compile" and runner.details["compiled"] == "in the first run"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_compiler_answers_as_eager_does(network: nn.Module) -> None:
    """With the true compiler, which writes C++ here."""
    import shutil

    if shutil.which("g++") is None:
        pytest.skip("PyTorch's compiler writes C++ for processors: no g++ here")
    runner = PlacedRunner(program(network, compiled=True), Cpu())
    want = answer(network, image(0))
    np.testing.assert_allclose(runner(image(0)), want, atol=1e-5 * np.abs(want).max())
    assert runner.details["compiled"]


def test_an_engine_for_another_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from types import SimpleNamespace

    from lightseg.export.tensorrt.engines import Engine

    engines = [Engine(c, "x.engine", "1", 1, "", 0.0, False, {}) for c in ("portable", "8.6")]
    for module, name, value in (
        ("lightseg.export.tensorrt.artifact", "read_build", lambda path: SimpleNamespace(engines=engines)),
        ("lightseg.export.tensorrt.device", "gpu", lambda: ("H200", "9.0")),
        ("lightseg.export.tensorrt.vendor", "vendor", lambda module: SimpleNamespace()),
    ):
        monkeypatch.setattr(f"{module}.{name}", value)
    path = tmp_path / "sinet.tensorrt_rtx"
    path.mkdir()
    with pytest.raises(Unsupported, match=r"has engines for portable, 8\.6, and this GPU has compute capability 9\.0"):
        programs.EngineProgram(path, (1, 3, 8, 8), Cpu())
