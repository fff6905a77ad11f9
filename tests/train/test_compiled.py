"""Networks that PyTorch compiles for training: at every size a recipe has, and in one line where it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightseg.errors import Unsupported
from lightseg.models.sinet import LEVEL3, SqueezeModule
from lightseg.train.loop import compiled


def test_what_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def compiler(net: nn.Module, **options: object) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            raise TorchDynamoException("no compiler here\n\nset this and that")

        return call

    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.raises(Unsupported, match=r"^PyTorch cannot compile .*\(no compiler here\); pass compile=false$"):
        compiled(nn.Identity())(torch.zeros(1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_takes_every_size_of_a_recipe() -> None:
    """Left to itself PyTorch 2.13.0 makes one graph for all sizes of this module, and fails over it."""
    if shutil.which("g++") is None:
        pytest.skip("PyTorch's compiler writes C++ for processors: no g++ here")
    module = SqueezeModule(16, 48, LEVEL3[3], residual=False, cross=False).eval()
    called = compiled(module)
    for side in (16, 32):
        x = torch.randn(2, 16, side, side, generator=torch.manual_seed(0))
        for layout in (x, x.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(called(layout), module(layout))
            called(layout).sum().backward()
