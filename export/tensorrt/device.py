"""An engine on a GPU: input and output by name, one CUDA stream, the calls recorded once as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, Unsupported
from lightseg.export.runner import Runner, wrong_size
from lightseg.export.tensorrt.engines import HERE, PORTABLE, Engine
from lightseg.export.tensorrt.vendor import Said, logger, vendor

OLDEST_PORTABLE = (8, 0)
"""Ampere: what a portable engine asks for at least."""


def gpu() -> tuple[str, str] | None:
    """Name and compute capability of the GPU at hand; None where there is none, or no PyTorch that could reach it."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), f"{major}.{minor}"


def fitting(engines: Sequence[Engine], capability: str, known: Sequence[str]) -> Engine | None:
    """The engine for a GPU of ``capability``: its own, else the portable one where the compiler knows the GPU.

    ``known`` are the capabilities the compiler has; an empty list is that of one that compiles for the GPU at hand.
    """
    by_capability = {engine.capability: engine for engine in engines}
    own = by_capability.get(capability) or by_capability.get(HERE)
    if own:
        return own
    major, minor = map(int, capability.split("."))
    covered = capability in known and (major, minor) >= OLDEST_PORTABLE
    return by_capability.get(PORTABLE) if covered else None


def check_version(path: Path, engine: Engine, module: str, version: str) -> None:
    """Errors: `BadInput` for an engine of another version, which the library would not load."""
    if engine.version != version:
        raise BadInput(
            f"{path / engine.file} was compiled by {module} {engine.version}; {version}, which is installed, does not "
            "load it: export it again"
        )


class BoundEngine:
    """The compiled engine on the GPU at hand, its one input and output tensors of PyTorch's that live as long.

    Errors: `Unsupported` without a GPU; `BadInput` for an engine of another version, GPU or file.
    """

    def __init__(self, module: str, path: Path, engine: Engine) -> None:
        import torch

        trt = vendor(module)
        found = gpu()
        if found is None:
            raise Unsupported(f"{path} needs an NVIDIA GPU and a PyTorch built for CUDA to run its engine")
        check_version(path, engine, module, trt.__version__)
        self._torch, said = torch, Said()
        self._log = logger(trt, said)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine((path / engine.file).read_bytes())
        if self._engine is None:
            raise BadInput(
                f"{path / engine.file} does not load on {found[0]} (compute capability {found[1]}): "
                f"{'; '.join(said.errors()) or 'no reason given'}; export it again for this GPU"
            )
        self._context = self._engine.create_execution_context()
        self.input, self.output = self._bound(trt, trt.TensorIOMode.INPUT), self._bound(trt, trt.TensorIOMode.OUTPUT)
        self.details = {
            "runtime": module,
            "version": trt.__version__,
            "device": found[0],
            "capability": found[1],
            "engine": engine.file,
        }

    def _bound(self, trt: Any, mode: Any) -> Any:
        """A tensor on the device for the one input or output, at the address the engine is told."""
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        (name,) = (n for n in names if engine.get_tensor_mode(n) == mode)
        dtype = {
            trt.DataType.FLOAT: self._torch.float32,
            trt.DataType.HALF: self._torch.float16,
            trt.DataType.UINT8: self._torch.uint8,
        }[engine.get_tensor_dtype(name)]
        tensor = self._torch.empty(tuple(engine.get_tensor_shape(name)), dtype=dtype, device="cuda")
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def launch(self, stream: Any) -> None:
        """Put one run on PyTorch's ``stream``, and do not wait for it."""
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BadInput("the engine does not run on this GPU; export it again for it")

    def records(self, stream: Any) -> bool:
        """Whether a launch may be recorded as a CUDA graph; a compiler that does not tell is believed to allow it."""
        able = getattr(self._context, "is_stream_capturable", None)
        return able is None or bool(able(stream.cuda_stream))


def native(x: NDArray[Any], takes: Any) -> Any:
    """``x``, N×3×H×W, in the layout and element type of ``takes``, a tensor: uint8 means N×H×W×3 pixels.

    Errors: `BadInput` for another size.
    """
    import torch

    image = takes.dtype == torch.uint8
    array = np.ascontiguousarray(x.transpose(0, 2, 3, 1) if image else x, np.uint8 if image else np.float32)
    if array.shape != tuple(takes.shape):
        raise wrong_size(tuple(takes.shape), array.shape)
    return torch.from_numpy(array)


class DeviceRunner(Runner):
    """A `BoundEngine` as a runner. ``run`` is one launch of the recorded graph, and waits for its end."""

    def __init__(self, module: str, path: Path, engine: Engine) -> None:
        import torch

        self._bound = BoundEngine(module, path, engine)
        self._torch, self._stream = torch, torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph = self._recorded()
        self.name = module
        self.details = {**self._bound.details, "cuda graph": "yes" if self._graph else "no"}

    def _recorded(self) -> Any:
        """The launches as one graph, after two runs in which kernels are compiled and memory is taken."""
        for _ in range(2):
            self._bound.launch(self._stream)
        self._stream.synchronize()
        if not self._bound.records(self._stream):
            return None
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph, stream=self._stream):
            self._bound.launch(self._torch.cuda.current_stream())
        return graph

    def feed(self, x: NDArray[Any]) -> None:
        self._bound.input.copy_(native(x, self._bound.input))
        self._torch.cuda.synchronize()

    def run(self) -> None:
        if self._graph is None:
            self._bound.launch(self._stream)
        else:
            with self._torch.cuda.stream(self._stream):
                self._graph.replay()
        self._stream.synchronize()

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._bound.output.cpu().numpy()
        return result
