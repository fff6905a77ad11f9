"""One runner for every kind of program on every place: copies outside the run, graphs, and the device's own clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightseg.benchmarks.cuda.place import Clock, Place
from lightseg.errors import Unsupported
from lightseg.export.runner import Runner
from lightseg.export.tensorrt.device import native

BEFORE_RECORDING = 3
"""Runs in which libraries compile, choose kernels and take memory, none of which can be recorded."""


class Program(Protocol):
    """A network made ready on a place."""

    name: str
    details: dict[str, str]
    """What really runs, read back from the runtime; may gain entries in the first launch."""
    input: Tensor
    """On the place, in the type and layout the network takes, at one address for good."""

    def launch(self) -> Tensor:
        """Put one run on the current stream, without waiting, and return the tensor that will hold the answer."""

    def recordable(self) -> bool:
        """Whether launches can be recorded as a CUDA graph; asked after a few of them."""


class PlacedRunner(Runner):
    """A `Program` as a `Runner`. ``run`` returns when the device is done.

    ``device_ns`` tells the device's own time of the last run, ``copies_ns`` of the last copies there and back; both
    are None where the place has no clock of its own. ``state`` tells the device's clocks and heat.
    """

    def __init__(self, program: Program, at: Place, graph: bool = False) -> None:
        self._program, self._place = program, at
        self._there, self._back = at.buffer(program.input), torch.empty(0)
        self._output = torch.empty(0)
        self._launch = self._recorded if graph else program.launch
        clocks = [at.clock() for _ in range(3)]
        self._run_clock, self._up_clock, self._down_clock = clocks
        self.device_ns: Callable[[], int] | None = clocks[0].ns if clocks[0] else None
        self.copies_ns = _pair(clocks[1], clocks[2])
        self.state = at.state
        self.name = program.name
        self.details = program.details
        self.details.update(at.details)

    def _recorded(self) -> Tensor:
        """The first run: recorded, and from then on repeated. Errors: `Unsupported`."""
        for _ in range(BEFORE_RECORDING):
            self._program.launch()
        self._place.wait()
        if not self._program.recordable():
            raise Unsupported(f"{self.name} cannot be recorded as a CUDA graph, it says; measure it with --graphs off")
        self._launch = self._place.record(self._program.launch)
        return self._launch()

    def feed(self, x: NDArray[Any]) -> None:
        self._there.copy_(native(x, self._program.input))
        _timed(self._up_clock, lambda: self._program.input.copy_(self._there, non_blocking=True))
        self._place.wait()

    def run(self) -> None:
        clock = self._run_clock
        if clock is None:
            self._output = self._launch()
            return
        clock.begin()
        self._output = self._launch()
        clock.end()

    def fetch(self) -> NDArray[Any]:
        if self._back.shape != self._output.shape:
            self._back = self._place.buffer(self._output)
        _timed(self._down_clock, lambda: self._back.copy_(self._output, non_blocking=True))
        self._place.wait()
        result: NDArray[Any] = self._back.numpy()
        return result.astype(np.float32)


def _timed(clock: Clock | None, copy: Callable[[], object]) -> None:
    if clock is None:
        copy()
        return
    clock.begin()
    copy()
    clock.end()


def _pair(up: Clock | None, down: Clock | None) -> Callable[[], tuple[int, int]] | None:
    if up is None or down is None:
        return None
    return lambda: (up.ns(), down.ns())
