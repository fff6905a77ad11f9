from __future__ import annotations

import numpy as np
import pytest
import torch

from lightseg.benchmarks.cuda import CudaRunner, require_cuda
from lightseg.errors import Unsupported
from lightseg.export.runner import torch_runner
from lightseg.zoo import create_model


def test_one_clear_line_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="sees no CUDA device here; run it on a machine with an NVIDIA GPU"):
        require_cuda()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_answers_as_the_cpu_does_and_times_itself() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    expected = torch_runner(create_model("sinet", "random"))(x)
    runner = CudaRunner(create_model("sinet", "random"), (1, 3, 64, 64))
    found = runner(x)
    assert np.abs(found - expected).max() <= 5e-3 * np.abs(expected).max()  # TF32 convolutions
    assert 0 < runner.device_ns() < 60e9
