"""Running a network, whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput


class Runner(Protocol):
    """A callable from N×3×H×W numbers to N×C×H'×W' numbers; layout, element type and buffers stay inside.

    The input is the preprocessed float32 image, or, for an artifact with baked preprocessing, the RGB pixel values.
    A call is `feed`, `run`, `fetch`; a benchmark times `run` alone.
    """

    name: str
    details: dict[str, str]
    """What really runs: runtime, version, provider or delegate."""

    def feed(self, x: NDArray[Any]) -> None:
        """Copy an input into the runtime's own buffer, in its layout."""

    def run(self) -> None:
        """The runtime's call and nothing else."""

    def fetch(self) -> NDArray[Any]:
        """The last output, N×C×H'×W'."""

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        self.feed(x)
        self.run()
        return self.fetch()


def wrong_size(takes: Sequence[int | str], given: Sequence[int]) -> BadInput:
    """The error of an image in another size than the artifact's."""
    want, got = ("x".join(map(str, shape)) for shape in (takes, given))
    return BadInput(f"this artifact takes {want}, not {got}; export another size")


class TorchRunner(Runner):
    """PyTorch eager on the CPU."""

    def __init__(self, model: Any, threads: int = 1, double: bool = False) -> None:
        import copy

        import torch

        self.name = "torch eager" + (" float64" if double else "")
        self.details = {"runtime": "torch", "version": torch.__version__, "threads": str(threads)}
        torch.set_num_threads(threads)
        self._model = copy.deepcopy(model).double() if double else model
        self._dtype = torch.float64 if double else torch.float32
        self._x = self._y = torch.empty(0)

    def feed(self, x: NDArray[Any]) -> None:
        import torch

        self._x = torch.from_numpy(np.ascontiguousarray(x)).to(self._dtype)

    def run(self) -> None:
        import torch

        with torch.inference_mode():
            self._y = self._model(self._x)

    def fetch(self) -> NDArray[Any]:
        result: NDArray[Any] = self._y.numpy()
        return result


def torch_runner(model: Any, threads: int = 1, double: bool = False) -> Runner:
    """``model`` in PyTorch eager; ``double`` runs a float64 copy of it, the reference of every proof."""
    return TorchRunner(model, threads, double)
