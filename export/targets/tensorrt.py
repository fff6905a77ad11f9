"""TensorRT, of which there are two packages with one Python API: ``tensorrt`` and ``tensorrt_rtx``.

An artifact is a folder: the network as ONNX with the precision in its types, and engines compiled from it. TensorRT
itself compiles for the GPU at hand and is untried here; its sister TensorRT-RTX compiles without one (see
`lightseg.export.targets.tensorrt_rtx`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import Unsupported
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.targets.folder import member, read_record, stamp
from lightseg.export.targets.target import Plan, Target
from lightseg.export.tensorrt.artifact import NETWORK, Build, read_build, write_build
from lightseg.export.tensorrt.device import DeviceRunner, fitting, gpu
from lightseg.export.tensorrt.engines import HERE, capabilities
from lightseg.export.tensorrt.vendor import vendor

COUNT = "int8_layers"

if TYPE_CHECKING:
    from lightseg.export.rewrites import Rewrite


def convert(module: str, plan: Plan, path: Path) -> None:
    from lightseg.export.targets.onnx import onnx_bytes
    from lightseg.export.tensorrt.typed import typed

    write_build(module, typed(onnx_bytes(plan, signed=True), plan.precision), plan.capabilities, path)


class InterpretedRunner(Runner):
    """The network as the vendor's parser reads it, executed in PyTorch: silent about engines and GPUs."""

    def __init__(self, module: str, path: Path, threads: int, build: Build, unproven: str) -> None:
        if find_spec("torch") is None:
            raise Unsupported(
                f"{path} runs on this machine in the reference interpreter, which computes in PyTorch: "
                "install it with: pip install torch"
            )
        import torch

        from lightseg import __version__
        from lightseg.export.tensorrt.interpreter import read_program

        self._torch = torch
        torch.set_num_threads(threads)
        self._program = read_program(module, path, member(path, NETWORK).read_bytes())
        self._x = self._y = torch.empty(0)
        self.name = "reference interpreter"
        self.details = {
            "runtime": "reference interpreter",
            "version": __version__,
            "parser": f"{module} {self._program.network.version}",
            "layers": str(len(self._program.network.steps)),
            "arithmetic": self._program.arithmetic,
            **int8_layers(build),
            "threads": str(threads),
            "unproven": unproven,
        }

    def feed(self, x: NDArray[Any]) -> None:
        image = self._program.takes_images
        native = np.array(x.transpose(0, 2, 3, 1) if image else x, np.uint8 if image else np.float32, order="C")
        if native.shape != self._program.network.input.shape:
            raise wrong_size(self._program.network.input.shape, native.shape)
        self._x = self._torch.from_numpy(native)

    def run(self) -> None:
        with self._torch.inference_mode():
            self._y = self._program.run(self._x)

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._y.numpy()
        return result


def load(module: str, path: Path, threads: int) -> Runner:
    """The engine on the GPU at hand where it has one; elsewhere the reference interpreter, which says why."""
    build, found = read_build(path), gpu()
    if found is None:
        return InterpretedRunner(
            module, path, threads, build, "that the engines compute this on a GPU: there is none here"
        )
    engine = fitting(build.engines, found[1], list(capabilities(vendor(module))))
    if engine is None:
        has = ", ".join(e.capability for e in build.engines) or "none"
        why = f"that the engines ({has}) compute this on a GPU: none is for {found[0]} (compute capability {found[1]})"
        return InterpretedRunner(module, path, threads, build, why)
    runner = DeviceRunner(module, path, engine)
    runner.details |= int8_layers(build)
    return runner


def int8_layers(build: Build) -> dict[str, str]:
    """For a runner's details: the convolutions in eight bits, as the compiler lists them."""
    return {COUNT: str(build.int8_layers)} if build.quantised else {}


def facts(path: Path) -> dict[str, Any]:
    return read_build(path).to_dict()


def rewrites() -> tuple[Rewrite, ...]:
    """PReLU stays: the compiler fuses it into one kernel with what stands beside it. `equalise` keeps C3Net inside
    float16. What would pay on a GPU is not measured.
    """
    from lightseg.export.rewrites import ALWAYS
    from lightseg.export.rewrites.equalise import equalise

    return (*ALWAYS, equalise)


def target(module: str, extra: str, compiled_for: tuple[str, ...]) -> Target:
    """The target of one of the two packages."""
    converted: Callable[[Plan, Path], None] = partial(convert, module)
    loaded: Callable[[Path, int], Runner] = partial(load, module)
    return Target(
        name=module,
        suffix=f".{module}",
        extra=extra,
        precisions=("fp32", "fp16", "int8"),
        dynamic=False,
        layout="NCHW",
        rewrites=rewrites,
        convert=converted,
        convert_needs=("onnx", module),
        load=loaded,
        load_needs=(module,),
        stamp=stamp,
        read_record=read_record,
        folder=True,
        int8=Scheme(symmetric=True),
        facts=facts,
        capabilities=compiled_for,
    )


TENSORRT = target("tensorrt", "tensorrt", (HERE,))
