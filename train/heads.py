"""What is trained in place of the bare network: its coarse head alone, or the network with its auxiliary head."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from lightseg.errors import Unsupported
from lightseg.models.blocks import conv
from lightseg.models.c3net import C3Net, C3NetV2, ExtremeC3Net
from lightseg.models.sinet import SINet, SINetCityscapes


class Coarse(nn.Module):
    """N×3×H×W → N×C×h×w logits of the encoder's head, at 1/4 (ExtremeC3Net) or 1/8 of the input's size."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, (SINet, C3Net, C3NetV2, ExtremeC3Net)):
            raise Unsupported(f"{type(net).__name__} has no encoder stage; set encoder_epochs=0")
        self.net = net
        if isinstance(net, ExtremeC3Net):
            self.head = conv(112, net.out.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        if isinstance(net, ExtremeC3Net):
            return cast(Tensor, self.head(net.encode(x)))
        if isinstance(net, SINet):
            return net.encode(x)[0]
        assert isinstance(net, (C3Net, C3NetV2))
        return cast(tuple[Tensor, ...], net.encoder(x))[0]


class WithAuxiliary(nn.Module):
    """N×3×H×W → (logits, coarse logits) while training, logits alone otherwise."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        if not isinstance(net, SINetCityscapes):
            raise Unsupported(f"{type(net).__name__} has no auxiliary head; set aux_weight=0")
        self.net: SINetCityscapes = net

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        net = self.net
        coarse, level3, down2 = net.encode(x)
        logits = net.decode(coarse, level3, down2)
        return (logits, coarse) if self.training and torch.is_grad_enabled() else logits
