"""A place with a made-up clock and recorder, so that what surrounds a GPU is tested without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightseg.benchmarks.cuda.place import Cpu


class FakeClock:
    """Every interval takes 5 ns; ``said`` keeps what was begun and ended."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def begin(self) -> None:
        self.said.append("begin")

    def end(self) -> None:
        self.said.append("end")

    def ns(self) -> int:
        return 5


class FakeGpu(Cpu):
    """Records like a GPU: a replay computes again from the same input into the same output."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @property
    def details(self) -> dict[str, str]:
        return {"device": "fake"}

    def clock(self) -> Any:
        return FakeClock(self.said)

    def wait(self) -> None:
        self.said.append("wait")

    def record(self, launch: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.said.append("record")
        output = launch()

        def replay() -> Tensor:
            self.said.append("replay")
            with torch.inference_mode():
                output.copy_(launch())
            return output

        return replay

    def state(self) -> dict[str, Any]:
        return {"throttling": []}


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def network() -> nn.Module:
    """Three channels in, two out; stands for a model."""
    torch.manual_seed(0)
    return nn.Conv2d(3, 2, 3, padding=1).requires_grad_(False)
