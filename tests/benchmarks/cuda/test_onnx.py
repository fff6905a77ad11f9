"""ONNX Runtime bound to PyTorch's tensors: on a processor truly, and what is asked of the CUDA provider."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightseg.benchmarks.cuda.place import Cpu
from lightseg.benchmarks.cuda.programs import (
    OnnxProgram,
    check_provider,
    check_quantised,
    check_started,
    nodes,
    provider_options,
    read_back,
)
from lightseg.benchmarks.cuda.runner import PlacedRunner
from lightseg.errors import BadInput, Unsupported
from lightseg.export import load

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Streamed(Cpu):
    """A GPU as far as options go."""

    device = torch.device("cuda", 0)

    def stream(self) -> Any:
        return SimpleNamespace(cuda_stream=4711)


@pytest.mark.parametrize("batch", [1, 3])
def test_bound_tensors_answer_as_the_ordinary_runner_does(small: dict[str, Path], batch: int, tmp_path: Path) -> None:
    path = small["onnx"] if batch == 1 else dynamic(tmp_path)
    runner = PlacedRunner(OnnxProgram(path, (batch, 3, 32, 64), Cpu()), Cpu())
    for seed in (0, 1):
        x = np.random.default_rng(seed).standard_normal((batch, 3, 32, 64)).astype(np.float32)
        want = np.concatenate([load(path)(one[None]) for one in x])
        np.testing.assert_allclose(runner(x), want, atol=1e-5 * np.abs(want).max())
    assert runner.details["provider"] == CPU
    assert runner.details["fallback nodes"] == "0" and int(runner.details["nodes"].split()[-1]) > 100


def dynamic(folder: Path) -> Path:
    from lightseg.export import export
    from lightseg.zoo import create_model

    return export(create_model("extremec3net", "random"), "onnx", folder, input_size=(32, 64), dynamic=True).path


def test_a_batch_that_a_file_does_not_take_is_one_line(small: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="takes 1x3x32x64, not 8x3x32x64; export it with --dynamic"):
        OnnxProgram(small["onnx"], (8, 3, 32, 64), Cpu())


@pytest.mark.parametrize(("graph", "tf32"), [(False, False), (True, True)])
def test_the_cuda_provider_is_told_everything_in_words(graph: bool, tf32: bool) -> None:
    assert provider_options(Streamed(), graph, tf32) == {
        "device_id": "0",
        "user_compute_stream": "4711",
        "use_tf32": str(int(tf32)),
        "enable_cuda_graph": str(int(graph)),
    }
    assert provider_options(Cpu(), False, False) == {}


def test_without_the_gpu_package_it_says_what_to_install() -> None:
    with pytest.raises(Unsupported, match="pip install onnxruntime-gpu"):
        check_provider(SimpleNamespace(__version__="1", get_available_providers=lambda: [CPU]), CUDA)


def test_a_provider_that_did_not_start_is_no_cuda_row() -> None:
    with pytest.raises(Unsupported, match=f"runs on {CPU}: {CUDA} did not start"):
        check_started(SimpleNamespace(get_providers=lambda: [CPU]), CUDA, "1")
    check_started(SimpleNamespace(get_providers=lambda: [CUDA, CPU]), CUDA, "1")


def test_int8_in_name_only_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"..QuantizeLinear..")
    with pytest.raises(Unsupported, match="no int8 convolutions"):
        check_quantised(path, Streamed())
    check_quantised(path, Cpu())


def test_fallback_nodes_are_counted_by_kind() -> None:
    def part(provider: str, *kinds: str) -> Any:
        return SimpleNamespace(ep_name=provider, get_nodes=lambda: [SimpleNamespace(op_type=kind) for kind in kinds])

    parts = [part(CUDA, "Conv"), part(CUDA, "Conv"), part(CPU, "Shape"), part(CPU, "Shape"), part(CPU, "Gather")]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    assert nodes(session, CUDA) == {"nodes": f"{CUDA} 2, {CPU} 3", "fallback nodes": "3 (1 Gather, 2 Shape)"}
    assert nodes(SimpleNamespace(), CUDA)["fallback nodes"] == "not readable"


def test_options_are_read_back() -> None:
    session = SimpleNamespace(
        get_provider_options=lambda: {CUDA: {"use_tf32": "0", "enable_cuda_graph": "1", "x": "y"}}
    )
    assert read_back(session, CUDA) == {"tf32": "0", "cuda graph": "1"}
