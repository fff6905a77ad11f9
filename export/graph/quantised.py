"""Eight-bit operations of the intermediate form, simulated: they compute with the numbers an integer kernel has.

They stand apart from `ops.OPS` because only int8 graphs hold them and only targets with int8 write them. All
parameters are float32 numbers kept in float64, so that what a file stores is what was simulated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightseg.export.graph import ops

SMALLEST = 2.0**-40
"""No scale below this: products of scales stay normal float32 numbers, and values that small are zero."""
BIAS_LIMIT = 2**30
"""Integer biases stay below half of what an int32 holds: a sum of products comes on top."""


class FakeQuantise(nn.Module):
    """x rounded (half to even) to ``scale`` · (q − ``zero_point``) with a whole q from ``low`` to ``high``."""

    scale: Tensor

    def __init__(self, scale: float, zero_point: int, low: int = -128, high: int = 127) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(max(scale, SMALLEST), dtype=torch.float32).double())
        self.zero_point, self.low, self.high = zero_point, low, high

    @property
    def symmetric(self) -> bool:
        return self.zero_point == 0 and self.low == -self.high

    def integers(self, x: Tensor) -> Tensor:
        """The whole numbers q, as floats."""
        return (torch.round(x / self.scale) + self.zero_point).clamp(self.low, self.high)

    def forward(self, x: Tensor) -> Tensor:
        return (self.integers(x) - self.zero_point) * self.scale


class QuantisedConv(ops.Conv):
    """A convolution whose weights are int8 multiples of ``weight_scale`` (one per output channel), and whose bias is
    an int32 multiple of ``bias_scale``. It reads a `FakeQuantise`.

    It inherits from `ops.Conv` because wherever only shape or cost is asked it is one.
    """

    weight_scale: Tensor
    bias_scale: Tensor

    def __init__(self, conv: ops.Conv, input_scale: Tensor) -> None:
        """``conv`` on the grid that goes with inputs of ``input_scale``."""
        scale = weight_scales(conv, input_scale)
        bias_scale = (scale.float() * input_scale.float()).double()
        per_output = scale[:, None, None, None]
        weight = torch.round(conv.weight / per_output).clamp(-127, 127) * per_output
        bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
        bias = torch.round(bias / bias_scale) * bias_scale
        super().__init__(weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias_scale", bias_scale)

    def integer_weight(self) -> Tensor:
        """O×I/groups×kh×kw int8."""
        return torch.round(self.weight / self.weight_scale[:, None, None, None]).to(torch.int8)

    def integer_bias(self) -> Tensor:
        """O int32."""
        assert self.bias is not None
        return torch.round(self.bias / self.bias_scale).to(torch.int32)


def weight_scales(conv: ops.Conv, input_scale: Tensor) -> Tensor:
    """Per output channel: the largest weight over 127, and never so small that the bias would not fit."""
    scale = conv.weight.abs().amax((1, 2, 3)) / 127
    if conv.bias is not None:
        scale = torch.maximum(scale, conv.bias.abs() / (input_scale * BIAS_LIMIT))
    return scale.clamp_min(SMALLEST).float().double()


QUANTISED = (FakeQuantise, QuantisedConv)
