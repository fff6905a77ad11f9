from __future__ import annotations

import pytest
import torch

from lightseg.benchmarks.cuda.ceilings import ceilings, fastest
from lightseg.benchmarks.cuda.place import Cpu
from tests.benchmarks.cuda.conftest import FakeGpu


def test_a_limit_for_every_arithmetic_and_the_copy() -> None:
    found = ceilings(Cpu(), side=32, copied=4096, seconds=0.0)
    assert found["by_precision"].keys() == {"fp32", "tf32", "fp16"}
    assert found["macs_per_second"] == found["by_precision"]["fp32"] > 0 < found["bytes_per_second"]
    assert not torch.backends.cudnn.allow_tf32


def test_by_the_device_s_clock(gpu: FakeGpu) -> None:
    assert fastest(gpu, lambda: gpu.said.append("run"), 0.0) == pytest.approx(5e-9)
    assert gpu.said == ["run", "wait", "begin", "run", "end"]
