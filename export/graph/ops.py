"""The operations of the intermediate form. All tensors are N×C×H×W; all parameters are buffers.

Every operation is independent of batch and image size, so that one graph serves static and dynamic exports.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


class Conv(nn.Module):
    """Convolution with zero padding; weight is O×I/groups×kh×kw. Depthwise and 1×1 are cases of it."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.weight.shape[1] == 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Deconv(nn.Module):
    """Transposed convolution whose stride equals its kernel, so that no two outputs overlap; weight is I×O×k×k."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.weight.shape[2:])


class Affine(nn.Module):
    """scale · x + shift per channel: what is left of a batch norm at inference."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]


class PReLU(nn.Module):
    """x where positive, slope · x elsewhere; slopes are per channel and may be negative or above one."""

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.slope)


class Concat(nn.Module):
    """Along channels."""

    def forward(self, *xs: Tensor) -> Tensor:
        return torch.cat(xs, 1)


class Add(nn.Module):
    """Sum of two maps of one shape."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Mul(nn.Module):
    """Product; one side may be 1×1 in space or have one channel."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class AvgPool(nn.Module):
    """Mean over windows that do not overlap."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)


class GlobalMean(nn.Module):
    """Mean over height and width: N×C×1×1."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


class Upsample(nn.Module):
    """Bilinear enlargement by a whole factor."""

    def __init__(self, factor: int, align_corners: bool) -> None:
        super().__init__()
        self.factor, self.align_corners = factor, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=float(self.factor), mode="bilinear", align_corners=self.align_corners)


class Permute(nn.Module):
    """Channel i of the output is channel ``index[i]`` of the input."""

    index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)


class Softmax(nn.Module):
    """Over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, 1)


class MaxChannel(nn.Module):
    """Largest channel: N×1×H×W."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1, keepdim=True)


class Sigmoid(nn.Module):
    """1 / (1 + e^−x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


class Abs(nn.Module):
    """Absolute value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Positives(nn.Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Negatives(nn.Module):
    """min(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=0)


class DepthToSpace(nn.Module):
    """Channel (i·block + j)·C + c becomes channel c at row i and column j of a block."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        b = self.block
        return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


class FirstChannels(nn.Module):
    """The first ``count`` channels."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.count]


class ArgMax(nn.Module):
    """Index of the largest channel, uint8, N×1×H×W; the first one on a tie."""

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1, keepdim=True).to(torch.uint8)


class Positive(nn.Module):
    """1 where the value is above zero, else 0, as uint8."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(torch.uint8)


class FromImage(nn.Module):
    """An N×H×W×3 uint8 image as an N×3×H×W map of the same numbers."""

    like: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).to(self.like.dtype)


class ColumnsToChannels(nn.Module):
    """Channel c of column w becomes channel w·C + c of a map one pixel wide; no data moves where channels are last."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.permute(0, 3, 1, 2).reshape(n, w * c, h, 1)


class ChannelsToColumns(nn.Module):
    """The inverse of `ColumnsToChannels`, for ``channels`` channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        n, wc, h, _ = x.shape
        return x.reshape(n, wc // self.channels, self.channels, h).permute(0, 2, 3, 1)


class StretchRows(nn.Module):
    """Linear enlargement of the height alone, of a map one pixel wide."""

    def __init__(self, factor: int, align_corners: bool) -> None:
        super().__init__()
        self.factor, self.align_corners = factor, align_corners

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2] * self.factor, 1)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)


class Whole(nn.Module):
    """A network nobody took apart, as one operation: what a general converter is given, and no direct writer."""

    def __init__(self, network: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.network, self.channels, self.stride = network, channels, stride

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y


OPS = (
    Conv, Deconv, Affine, PReLU, Concat, Add, Mul, AvgPool, GlobalMean, Upsample, Permute, Softmax, MaxChannel, Sigmoid,
    Abs, Positives, Negatives, DepthToSpace, FirstChannels, ArgMax, Positive, FromImage,
)  # fmt: skip

CHANNELS_LAST = (ColumnsToChannels, ChannelsToColumns, StretchRows)
"""Operations that cost nothing, or little, only in targets whose channels come last; other targets never see them."""
