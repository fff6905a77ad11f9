"""How far float16's eleven significant bits alone move a network: the yardstick of every float16 proof."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx

DROPPED = 13
"""Bits of a float32's fraction that a float16 has not."""


def to_eleven_bits(x: Tensor) -> Tensor:
    """Float32 values rounded to even at float16's precision but not to its range: no overflow, no denormals."""
    bits = x.contiguous().view(torch.int32)
    rounded = bits + (1 << DROPPED - 1) - 1 + (bits >> DROPPED & 1)
    return (rounded & -(1 << DROPPED)).view(torch.float32)


class RoundedGraph(fx.Interpreter):
    """A graph of the intermediate form with every parameter, input and result rounded to eleven bits.

    Sums inside one operation are float32, as in the units that compute float16 with care.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        rounded = copy.deepcopy(graph).float()
        for module in rounded.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    setattr(module, name, to_eleven_bits(buffer))
        super().__init__(rounded)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return to_eleven_bits(value) if floating else value

    def logits(self, x: Tensor) -> Tensor:
        """N×C×H'×W' for the float32 input N×3×H×W."""
        with torch.inference_mode():
            result: Tensor = self.run(x)
        return result
