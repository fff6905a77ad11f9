"""TensorRT on a GPU, where there is one; what stands around it, anywhere."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightseg.errors import BadInput, Unsupported
from lightseg.export import load, verify
from lightseg.export.pipeline import export
from lightseg.export.targets import TARGETS
from lightseg.export.tensorrt.device import BoundEngine, DeviceRunner, gpu
from lightseg.export.tensorrt.engines import HERE, Engine, capabilities
from lightseg.export.tensorrt.timing import cache_path, read_timings, write_timings
from lightseg.export.tensorrt.vendor import Said, logger, vendor
from tests.export.subjects import lively, reference, require, small_size

MODULES = ("tensorrt_rtx", "tensorrt")


def _needs_gpu(module: str) -> str:
    """The capability to compile for; skips with the reason where nothing can run."""
    require(module)
    found = gpu()
    if found is None:
        pytest.skip("no NVIDIA GPU that PyTorch reaches")
    known = capabilities(vendor(module))
    if module == "tensorrt_rtx" and found[1] not in known:
        pytest.skip(f"{module} compiles for {', '.join(known)}, and the GPU here is {found[1]}")
    return HERE if module == "tensorrt" else found[1]


@pytest.mark.gpu
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("preprocess", ["none", "baked"])
def test_the_engine_equals_pytorch_on_the_gpu(module: str, precision: str, preprocess: str, tmp_path: Path) -> None:
    capability = _needs_gpu(module)
    artifact = export(
        lively("sinet"), module, tmp_path, None, reference("sinet"), precision=precision,
        input_size=small_size("sinet"), preprocess=preprocess, capabilities=(capability,),
    )  # fmt: skip
    assert artifact.parity is not None
    said = artifact.parity["runner"]
    assert said["runtime"] == module and "unproven" not in said and said["cuda graph"] in ("yes", "no")
    assert verify(artifact.path).goldens


@pytest.mark.gpu
@pytest.mark.parametrize("module", MODULES)
def test_a_recorded_graph_follows_its_input(module: str, tmp_path: Path) -> None:
    """A second image through the same graph is answered as by a fresh runner, and a wrong size is one line."""
    capability = _needs_gpu(module)
    size = small_size("sinet")
    artifact = export(
        lively("sinet"), module, tmp_path, None, reference("sinet"), input_size=size, capabilities=(capability,)
    )
    first, second = (np.random.default_rng(i).standard_normal((1, 3, *size), np.float32) / 255 for i in (0, 1))
    runner = load(artifact.path)
    before = runner(first)
    assert not np.array_equal(before, runner(second))
    np.testing.assert_array_equal(before, runner(first))
    with pytest.raises(BadInput, match="export another size"):
        runner(first[..., :-1])


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_the_engine_does_not_run(tmp_path: Path) -> None:
    require("tensorrt_rtx")
    engine = Engine("portable", "a.engine", "1", 1, "", 0.0, False, {})
    with pytest.raises(Unsupported, match="needs an NVIDIA GPU and a PyTorch built for CUDA"):
        DeviceRunner("tensorrt_rtx", tmp_path, engine)


def test_an_engine_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library writes its reason to the logger and returns nothing."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, data: bytes) -> None:
            self.log.log(SimpleNamespace(name="ERROR"), "the engine was made for compute capability 8.6")

    trt = SimpleNamespace(__version__="1", ILogger=object, Runtime=Runtime)
    monkeypatch.setattr("lightseg.export.tensorrt.device.vendor", lambda module: trt)
    monkeypatch.setattr("lightseg.export.tensorrt.device.gpu", lambda: ("H200", "9.0"))
    monkeypatch.setattr(
        "lightseg.export.tensorrt.device.logger",
        lambda trt, said: SimpleNamespace(log=lambda severity, text: said.lines.append((severity.name, text))),
    )
    (tmp_path / "a.engine").write_bytes(b"x")
    engine = Engine("8.6", "a.engine", "1", 1, "", 0.0, False, {})
    with pytest.raises(BadInput, match=r"does not load on H200 \(compute capability 9.0\): .*capability 8\.6; export"):
        BoundEngine("tensorrt_rtx", tmp_path, engine)


def test_timings_are_kept_for_the_package_that_times() -> None:
    assert cache_path("tensorrt_rtx", "1.7") is None
    path = cache_path("tensorrt", "10.9.0")
    assert path is not None and path.parts[-3:] == ("lightseg", "tensorrt", "10.9.0.timing")
    read_timings(None, None)
    write_timings(None, None)


def test_timings_go_through_the_vendors_interface(tmp_path: Path) -> None:
    """TensorRT-RTX has the same calls, and says that they do nothing."""
    require("tensorrt_rtx")
    trt = vendor("tensorrt_rtx")
    log = logger(trt, Said())
    builder = trt.Builder(log)
    path = tmp_path / "a" / "timing"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        config = builder.create_builder_config()
        read_timings(config, path)
        write_timings(config, path)
        assert path.stat().st_size > 0
        read_timings(builder.create_builder_config(), path)


def test_timings_that_fail_to_be_written_say_where(tmp_path: Path) -> None:
    from lightseg.errors import OutputError

    (tmp_path / "file").write_text("in the way")
    config = SimpleNamespace(get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"x"))
    with pytest.raises(OutputError, match="file"):
        write_timings(config, tmp_path / "file" / "timing")


def test_both_packages_have_a_target() -> None:
    assert set(MODULES) <= set(TARGETS)
