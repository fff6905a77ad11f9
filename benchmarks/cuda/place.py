"""Where a network runs, as PyTorch sees it: the processor, or a GPU with its stream, clock, pinned memory and graphs.

Everything that only a GPU has is in `Cuda`, so that the rest is the same code, tested on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor

from lightseg.benchmarks.cuda.nvidia import ask, gpu_state
from lightseg.errors import Unsupported

Launch = Callable[[], Tensor]
"""Puts one run on the current stream and returns the tensor that will hold the answer."""


def require_cuda() -> None:
    """Raise `Unsupported` in one line where PyTorch sees no CUDA device."""
    if not torch.cuda.is_available():
        raise Unsupported(
            f"--device cuda: PyTorch {torch.__version__} sees no CUDA device here; "
            "run it on a machine with an NVIDIA GPU and a CUDA build of PyTorch, or use --device cpu"
        )


class Clock(Protocol):
    """The device's own: `begin` and `end` stand in the stream, and `end` waits for the device."""

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def ns(self) -> int:
        """Between the last two."""


class Place(Protocol):
    """A device, all of whose work goes through one stream."""

    device: torch.device

    @property
    def details(self) -> dict[str, str]: ...

    def clock(self) -> Clock | None:
        """None where the host's clock is the only one."""

    def buffer(self, like: Tensor) -> Tensor:
        """The host's end of copies to and from ``like``: memory that the device can read by itself."""

    def wait(self) -> None:
        """Until the device has done all it was given."""

    def record(self, launch: Launch) -> Launch:
        """A function that repeats exactly what ``launch`` puts on the stream, on the same addresses."""

    def stream(self) -> Any:
        """PyTorch's stream; None on a processor."""

    def state(self) -> dict[str, Any]:
        """Clocks, heat and reasons for a lowered clock now; empty where that is the machine's and not the device's."""


class Cpu:
    """The processor: work is done when a call returns."""

    device = torch.device("cpu")

    @property
    def details(self) -> dict[str, str]:
        return {}

    def clock(self) -> None:
        return None

    def buffer(self, like: Tensor) -> Tensor:
        return like.clone()

    def wait(self) -> None:
        pass

    def record(self, launch: Launch) -> Launch:
        raise Unsupported("CUDA graphs are of NVIDIA GPUs; leave --graphs, or use --device cuda")

    def stream(self) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {}


class Events:
    """Two CUDA events; their clock resolves about half a microsecond."""

    def __init__(self) -> None:
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        self._begin.record()

    def end(self) -> None:
        self._end.record()
        self._end.synchronize()

    def ns(self) -> int:
        milliseconds: float = self._begin.elapsed_time(self._end)
        return round(milliseconds * 1e6)


class Cuda:
    """The first GPU that PyTorch sees. Making it one sets the current stream of the process, once: a stream of our own,
    since nothing can be recorded on the default one, and ONNX Runtime takes no other than such a one for its work.
    """

    device = torch.device("cuda", 0)

    def __init__(self) -> None:
        require_cuda()
        self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        torch.cuda.set_stream(self._stream)

    @property
    def details(self) -> dict[str, str]:
        major, minor = torch.cuda.get_device_capability(self.device)
        return {
            "device": torch.cuda.get_device_name(self.device),
            "capability": f"{major}.{minor}",
            "cuda": str(torch.version.cuda),
        }

    def clock(self) -> Clock:
        return Events()

    def buffer(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def wait(self) -> None:
        self._stream.synchronize()

    def record(self, launch: Launch) -> Launch:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            output = launch()

        def replay() -> Tensor:
            graph.replay()
            return output

        return replay

    def stream(self) -> Any:
        return self._stream

    def state(self) -> dict[str, Any]:
        return gpu_state(partial(ask, gpu=uuid()))


def uuid() -> str:
    """Of the first GPU that PyTorch sees, as ``nvidia-smi --id`` takes it; its numbers need not be PyTorch's."""
    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


@cache
def place(device: str) -> Place:
    """The place named "cpu" or "cuda", one in the whole process. Errors: `Unsupported` without a GPU."""
    return Cuda() if device == "cuda" else Cpu()


def set_tf32(on: bool) -> str:
    """Let float32 products be computed from ten bits of mantissa, or forbid it, for the whole process; read back.

    PyTorch's own defaults forbid it in matrix products and allow it in convolutions, which is neither.
    """
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on
    return f"matmul {_word(torch.backends.cuda.matmul.allow_tf32)}, conv {_word(torch.backends.cudnn.allow_tf32)}"


def _word(on: bool) -> str:
    return "on" if on else "off"
