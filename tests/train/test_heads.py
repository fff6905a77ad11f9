from __future__ import annotations

import pytest
import torch
from torch import nn

from lightseg.errors import Unsupported
from lightseg.train.heads import Coarse, WithAuxiliary
from lightseg.zoo import MODELS


@pytest.mark.parametrize(("name", "stride"), [("sinet", 8), ("extremec3net", 4), ("c3net", 8), ("c3netv2", 8)])
def test_stage_one_trains_the_encoder_at_its_resolution(name: str, stride: int) -> None:
    net = MODELS[name].build()
    coarse = Coarse(net).train()
    logits = coarse(torch.randn(2, 3, 64, 96))
    assert logits.shape == (2, MODELS[name].channels, 64 // stride, 96 // stride)
    logits.square().mean().backward()
    stem = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert stem.weight.grad is not None and float(stem.weight.grad.abs().sum()) > 0


def test_a_network_without_stages_is_refused() -> None:
    with pytest.raises(Unsupported, match="encoder_epochs=0"):
        Coarse(MODELS["sinet_cityscapes"].build())
    with pytest.raises(Unsupported, match="aux_weight=0"):
        WithAuxiliary(MODELS["sinet"].build())


def test_the_auxiliary_head_is_there_while_training_only() -> None:
    net = WithAuxiliary(MODELS["sinet_cityscapes"].build())
    x = torch.randn(2, 3, 128, 128)
    logits, side = net.train()(x)
    assert logits.shape == (2, 19, 64, 64) and side.shape == (2, 19, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(x), net.net.eval()(x))
