"""PyTorch eager on an NVIDIA GPU, timed by the host's clock and by CUDA events."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from lightseg.errors import Unsupported
from lightseg.export.runner import Runner
from lightseg.zoo import SegmentationModel


def require_cuda() -> None:
    """Raise `Unsupported` in one line where PyTorch sees no CUDA device."""
    if not torch.cuda.is_available():
        raise Unsupported(
            f"--device cuda: PyTorch {torch.__version__} sees no CUDA device here; "
            "run it on a machine with an NVIDIA GPU and a CUDA build of PyTorch, or use --device cpu"
        )


class CudaRunner(Runner):
    """A `Runner` whose ``run`` returns when the GPU is done; copies to and from the GPU are outside it."""

    def __init__(self, model: SegmentationModel, shape: tuple[int, ...]) -> None:
        require_cuda()
        self.model = model.cuda().eval()
        self.input = torch.empty(shape, device="cuda")
        self.output: Tensor | None = None
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self.name = "PyTorch eager"
        self.details = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "tf32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}",
        }

    def feed(self, x: NDArray[Any]) -> None:
        self.input.copy_(torch.from_numpy(x))
        torch.cuda.synchronize()

    @torch.inference_mode()
    def run(self) -> None:
        self.begin.record()
        self.output = self.model(self.input)
        self.end.record()
        self.end.synchronize()

    def device_ns(self) -> int:
        """The last run's time between the two events; event clocks resolve about half a microsecond."""
        milliseconds: float = self.begin.elapsed_time(self.end)
        return round(milliseconds * 1e6)

    def fetch(self) -> NDArray[Any]:
        assert self.output is not None
        return self.output.cpu().numpy()
