"""The building blocks the five networks share.

Written from the networks' published description. Convolutions have no bias and keep the size at stride 1;
batch norms have momentum 0.1 and eps 1e-3 unless the argument says otherwise.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-3


def conv(
    cin: int, cout: int, kernel: int | tuple[int, int], stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A convolution without bias, padded so that stride 1 keeps the size."""
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = ((kh - 1) // 2 * dilation, (kw - 1) // 2 * dilation)
    return nn.Conv2d(cin, cout, (kh, kw), stride, padding, dilation, groups, bias=False)


def depthwise(channels: int, kernel: int | tuple[int, int], stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return conv(channels, channels, kernel, stride, dilation, groups=channels)


def norm(channels: int, eps: float = EPS) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=eps)


def upsample(x: Tensor, factor: int, align_corners: bool = True) -> Tensor:
    """Bilinear upsampling; ``align_corners`` is part of the architecture and differs between the networks."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=align_corners)


class NormAct(nn.Module):
    """Batch norm and PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = norm(channels)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.bn(x)))


class ConvNormAct(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = conv(cin, cout, kernel, stride)
        self.bn = norm(cout)
        self.act = nn.PReLU(cout)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.act(self.bn(self.conv(x))))


class SqueezeGate(nn.Module):
    """x · g, where g comes from the global average through one or two linear layers with PReLU.

    There is no sigmoid: g is unbounded and may be negative. The linear layers are 1×1 convolutions on a 1×1 map,
    which is the same arithmetic and keeps every tensor four-dimensional for the exporters.
    """

    def __init__(self, channels: int, reduction: int = 1) -> None:
        super().__init__()
        squeezed = channels // reduction
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.act1 = nn.PReLU(squeezed)
        if reduction > 1:
            self.excite = nn.Conv2d(squeezed, channels, 1)
            self.act2 = nn.PReLU(channels)
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        gate = self.act1(self.squeeze(x.mean((2, 3), keepdim=True)))
        if self.reduction > 1:
            gate = self.act2(self.excite(gate))
        return x * cast(Tensor, gate)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def blocking_gate(logits: Tensor) -> Tensor:
    """1 − the winner's probability: large where the coarse prediction is unsure. N×C×H×W → N×1×H×W."""
    return 1 - torch.softmax(logits, dim=1).amax(dim=1, keepdim=True)
