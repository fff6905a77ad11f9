"""Graphs of the intermediate form written by hand or by motif, with seeded parameters.

The parameters are harsher than a network's: slopes from −3.6 to 4.8, scales of both signs, some zero.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import add_op

SIZE = (16, 24)
MULTIPLE = 8
POINT = Fraction(0)
"""In place of a stride: a 1×1 map."""


class Builder:
    """A graph under construction, with seeded parameters."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, multiple: int = 1) -> None:
        self.rng, self.torch = random.Random(seed), torch.Generator().manual_seed(seed)
        self.root, self.graph = nn.Module(), fx.Graph()
        self.meta = {"input_shape": shape, "multiple": multiple}
        self.image = self.graph.placeholder("image")

    def call(self, op: nn.Module, *inputs: fx.Node) -> fx.Node:
        name = add_op(self.root, type(op).__name__.lower(), op.double())
        return self.graph.call_module(name, inputs)

    def finish(self, result: fx.Node) -> fx.GraphModule:
        self.graph.output(result)
        module = fx.GraphModule(self.root, self.graph).eval()
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        module.meta |= self.meta
        return module

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch, dtype=torch.float64)

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.torch, dtype=torch.float64)

    def conv(
        self,
        cin: int,
        cout: int,
        kernel: tuple[int, int] = (1, 1),
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] | None = None,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool | None = None,
    ) -> ops.Conv:
        """Random weights; padded so that stride one keeps the size unless ``padding`` says otherwise."""
        same = (kernel[0] // 2 * dilation[0], kernel[1] // 2 * dilation[1])
        taps = cin // groups * kernel[0] * kernel[1]
        weight = self.normal(cout, cin // groups, *kernel) / taps**0.5
        offset = self.normal(cout) if (self.rng.random() < 0.6 if bias is None else bias) else None
        return ops.Conv(weight, offset, stride, same if padding is None else padding, dilation, groups)

    def affine(self, channels: int) -> ops.Affine:
        scale = self.between(-1.5, 1.5, channels)
        scale[scale.abs() < 0.1] = 0
        shift = torch.zeros(channels, dtype=torch.float64) if self.rng.random() < 0.2 else self.normal(channels)
        return ops.Affine(scale, shift)

    def prelu(self, channels: int) -> ops.PReLU:
        return ops.PReLU(self.between(-3.6, 4.8, channels))

    def signs(self, count: int) -> Tensor:
        return 1 - 2 * torch.randint(0, 2, (count,), generator=self.torch, dtype=torch.float64)

    def shuffle(self, channels: int, groups: int = 2) -> ops.Permute:
        return ops.Permute(torch.arange(channels).reshape(groups, -1).T.reshape(-1))


@dataclass(frozen=True)
class Value:
    """A map of the graph: its channels, and input size over its size."""

    node: fx.Node
    channels: int
    stride: Fraction


class Sketch(Builder):
    """A builder that remembers its values and lets motifs read any of them."""

    def __init__(self, seed: int) -> None:
        super().__init__((1, 3, *SIZE), seed, MULTIPLE)
        self.values = [Value(self.image, 3, Fraction(1))]

    def pick(self, fits: Callable[[Value], bool] = lambda v: True) -> Value:
        """Mostly the latest value that fits."""
        able = [v for v in self.values if v.stride != POINT and fits(v)] or self.values[:1]
        return able[-1] if self.rng.random() < 0.75 else self.rng.choice(able)

    def put(self, op: nn.Module, *sources: Value, channels: int | None = None, stride: Fraction | None = None) -> Value:
        first = sources[0]
        value = Value(
            self.call(op, *(s.node for s in sources)),
            first.channels if channels is None else channels,
            first.stride if stride is None else stride,
        )
        self.values.append(value)
        return value

    def shuffled(self, *values: Value) -> list[Value]:
        return self.rng.sample(values, len(values))

    def even(self, value: Value) -> Value:
        """``value`` with an even number of channels."""
        return value if value.channels % 2 == 0 else self.dense(value, value.channels + 1)

    def dense(self, value: Value, channels: int) -> Value:
        return self.put(self.conv(value.channels, channels), value, channels=channels)

    def like(self, value: Value) -> Value:
        """Another map of the same shape; made where there is none."""
        others = [v for v in self.values if v.stride == value.stride and v is not value]
        if not others:
            return self.put(ops.Sigmoid(), value)
        other = self.rng.choice(others)
        return other if other.channels == value.channels else self.dense(other, value.channels)
