"""Random small graphs of the intermediate form, made of the motifs networks are made of.

A graph is a list of motif names and a seed, so that hypothesis shrinks a failure to the few motifs that matter. The
input is 1×3×`SIZE`, every size valid for the graph is a multiple of `MULTIPLE`, and parameters are harsher than a
network's: slopes from −3.6 to 4.8, scales of both signs, some zero.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
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


def _width(s: Sketch) -> int:
    return s.rng.choice([2, 3, 4, 6])


def _pointwise(s: Sketch) -> None:
    s.dense(s.pick(), _width(s))


def _square(s: Sketch) -> None:
    v, n, d = s.pick(), _width(s), s.rng.choice([1, 2])
    s.put(s.conv(v.channels, n, (3, 3), dilation=(d, d)), v, channels=n)


def _depthwise(s: Sketch) -> None:
    v, k, d = s.pick(), s.rng.choice([3, 5]), s.rng.choice([1, 1, 3])
    s.put(s.conv(v.channels, v.channels, (k, k), dilation=(d, d), groups=v.channels), v)


def _widening_depthwise(s: Sketch) -> None:
    v = s.pick()
    n = 2 * v.channels
    s.put(s.conv(v.channels, n, (3, 3), groups=v.channels), v, channels=n)


def _long_depthwise(s: Sketch) -> None:
    v, k = s.pick(), s.rng.choice([27, 29, 31])
    s.put(s.conv(v.channels, v.channels, s.rng.choice([(k, 1), (1, k)]), groups=v.channels), v)


def _cross(s: Sketch) -> None:
    """k×1 plus 1×k, with batch norms or without."""
    v, k = s.pick(), s.rng.choice([3, 5])
    parts = [s.put(s.conv(v.channels, v.channels, size, groups=v.channels), v) for size in ((k, 1), (1, k))]
    if s.rng.random() < 0.6:
        parts = [s.put(s.affine(v.channels), p) for p in parts]
    s.put(ops.Add(), *parts)


def _down(s: Sketch) -> None:
    v = s.pick(lambda v: v.stride <= MULTIPLE / 2)
    groups = v.channels if s.rng.random() < 0.5 else 1
    s.put(s.conv(v.channels, v.channels, (3, 3), (2, 2), groups=groups), v, stride=v.stride * 2)


def _grouped_shuffled(s: Sketch) -> None:
    v, n = s.even(s.pick()), 2 * s.rng.choice([1, 2, 3, 4])
    grouped = s.put(s.conv(v.channels, n, groups=2), v, channels=n)
    shuffled = s.put(s.shuffle(n), grouped)
    if s.rng.random() < 0.7:
        s.dense(s.put(s.prelu(n), s.put(s.affine(n), shuffled)), 2)


def _permuted(s: Sketch) -> None:
    v = s.pick()
    s.put(ops.Permute(torch.randperm(v.channels, generator=s.torch)), v)


def _affine(s: Sketch) -> None:
    v = s.pick()
    s.put(s.affine(v.channels), v)


def _prelu(s: Sketch) -> None:
    v = s.pick()
    s.put(s.prelu(v.channels), v)


def _affines(s: Sketch) -> None:
    """Two in a row, behind something that takes neither."""
    v = s.pick()
    s.put(s.affine(v.channels), s.put(s.affine(v.channels), s.put(s.prelu(v.channels), v)))


def _norm_act(s: Sketch) -> None:
    v = s.pick()
    s.put(s.prelu(v.channels), s.put(s.affine(v.channels), v))


def _concat(s: Sketch) -> None:
    v = s.pick()
    parts = [v, *(s.like(v) for _ in range(s.rng.choice([1, 1, 2])))]
    joined = s.put(ops.Concat(), *parts, channels=sum(p.channels for p in parts))
    if joined.channels > 24:
        s.dense(joined, 4)


def _join(s: Sketch) -> None:
    """Concatenation, batch norm, PReLU."""
    v = s.pick()
    other = s.like(v)
    n = v.channels + other.channels
    joined = s.put(ops.Concat(), v, other, channels=n)
    s.put(s.prelu(n), s.put(s.affine(n), joined))


def _branch(s: Sketch) -> None:
    """Squeeze in space, filter, back to size, batch norm: where affines and 1×1 convolutions travel."""
    v = s.pick(lambda v: v.stride * 2 <= MULTIPLE)
    n = s.rng.choice([1, v.channels])
    small = s.put(ops.AvgPool(2), v, stride=v.stride * 2)
    mixed = s.put(s.conv(v.channels, v.channels, (3, 3), groups=v.channels), small)
    narrow = s.put(s.conv(v.channels, n), s.put(s.prelu(v.channels), s.put(s.affine(v.channels), mixed)), channels=n)
    up = s.put(ops.Upsample(2, s.rng.random() < 0.5), narrow, stride=v.stride)
    s.put(s.affine(n), up)


def _up_pointwise(s: Sketch) -> None:
    """A head behind an upsampling, narrower or wider than it."""
    v, n = s.pick(lambda v: v.stride >= 1), s.rng.choice([1, 2, 6])
    if v.stride >= 1:
        up = s.put(ops.Upsample(2, s.rng.random() < 0.5), v, stride=v.stride / 2)
        s.put(s.conv(v.channels, n), up, channels=n)


def _tail(s: Sketch) -> None:
    """How portrait networks end: upsampling, batch norm, upsampling, 3×3 of very few channels."""
    v, n = s.pick(lambda v: v.stride >= 2), s.rng.choice([1, 2, 3])
    aligned = s.rng.random() < 0.5
    if v.stride >= 2:
        up = s.put(ops.Upsample(2, aligned), s.dense(v, n), stride=v.stride / 2)
        up = s.put(ops.Upsample(2, aligned), s.put(s.affine(n), up), stride=v.stride / 4)
        s.put(s.conv(n, n, (3, 3)), up)


def _add(s: Sketch) -> None:
    v = s.pick()
    s.put(ops.Add(), v, s.like(v))


def _twice(s: Sketch) -> None:
    """A value added to itself."""
    v = s.pick()
    s.put(ops.Add(), v, v)


def _pool(s: Sketch) -> None:
    factor = s.rng.choice([2, 2, 4])
    v = s.pick(lambda v: v.stride * factor <= MULTIPLE)
    if v.stride * factor <= MULTIPLE:
        s.put(ops.AvgPool(factor), v, stride=v.stride * factor)


def _up(s: Sketch) -> None:
    v = s.pick(lambda v: v.stride >= 1)
    if v.stride >= 1:
        s.put(ops.Upsample(2, s.rng.random() < 0.5), v, stride=v.stride / 2)


def _squeeze(s: Sketch) -> None:
    """The gate of a squeeze-and-excite block."""
    v = s.pick()
    c = v.channels
    gate = s.put(s.conv(c, c), s.put(ops.GlobalMean(), v, stride=POINT))
    s.put(ops.Mul(), v, s.put(s.prelu(c), gate))


def _blocking(s: Sketch) -> None:
    """1 − the winner's probability, times a map."""
    v, n = s.pick(), s.rng.choice([2, 2, 3])
    largest = s.put(ops.MaxChannel(), s.put(ops.Softmax(), s.dense(v, n)), channels=1)
    one = torch.ones(1, dtype=torch.float64)
    s.put(ops.Mul(), v, s.put(ops.Affine(-one, one), largest))


def _deconv(s: Sketch) -> None:
    v, n, k = s.pick(lambda v: v.stride >= 1), _width(s), 2
    if v.stride >= 1:
        weight = s.normal(v.channels, n, k, k) / v.channels**0.5
        bias = s.normal(n) if s.rng.random() < 0.5 else None
        s.put(ops.Deconv(weight, bias), v, channels=n, stride=v.stride / k)


def _repeated(s: Sketch) -> None:
    """The same convolution of the same map twice, both read."""
    v, n = s.pick(), _width(s)
    one = s.conv(v.channels, n, (3, 3))
    again = ops.Conv(one.weight, one.bias, padding=(1, 1))
    s.put(ops.Concat(), s.put(one, v, channels=n), s.put(again, v, channels=n), channels=2 * n)


def _dead_branch(s: Sketch) -> None:
    """A convolution that is exactly zero, added to a map."""
    v = s.pick()
    zero = ops.Conv(torch.zeros(v.channels, v.channels, 3, 3, dtype=torch.float64), padding=(1, 1))
    s.put(ops.Add(), v, s.put(zero, v))


def _plain(op: type[nn.Module]) -> Callable[[Sketch], None]:
    def motif(s: Sketch) -> None:
        s.put(op(), s.pick())

    return motif


def _depth_to_space(s: Sketch) -> None:
    v, n = s.pick(lambda v: v.stride >= 1), s.rng.choice([1, 2])
    if v.stride >= 1:
        s.put(ops.DepthToSpace(2), s.dense(v, 4 * n), channels=n, stride=v.stride / 2)


MOTIFS: dict[str, Callable[[Sketch], None]] = {
    "pointwise": _pointwise,
    "square": _square,
    "depthwise": _depthwise,
    "widening depthwise": _widening_depthwise,
    "long depthwise": _long_depthwise,
    "cross": _cross,
    "down": _down,
    "grouped, shuffled": _grouped_shuffled,
    "permuted": _permuted,
    "affine": _affine,
    "affines": _affines,
    "prelu": _prelu,
    "norm, act": _norm_act,
    "concat": _concat,
    "join": _join,
    "branch": _branch,
    "up, pointwise": _up_pointwise,
    "tail": _tail,
    "add": _add,
    "twice": _twice,
    "pool": _pool,
    "up": _up,
    "squeeze": _squeeze,
    "blocking": _blocking,
    "deconv": _deconv,
    "repeated": _repeated,
    "dead branch": _dead_branch,
    "softmax": _plain(ops.Softmax),
    "sigmoid": _plain(ops.Sigmoid),
    "abs": _plain(ops.Abs),
    "positives": _plain(ops.Positives),
    "negatives": _plain(ops.Negatives),
    "depth to space": _depth_to_space,
}


def sketch(motifs: Sequence[str], seed: int) -> fx.GraphModule:
    """The graph of ``motifs``; all maps of the last one's size that nobody reads are concatenated at the end."""
    s = Sketch(seed)
    for name in motifs:
        MOTIFS[name](s)
    last = s.values[-1]
    unread = [v for v in s.values[:-1] if v.stride == last.stride and not v.node.users]
    return s.finish(s.put(ops.Concat(), *unread, last).node if unread else last.node)


STEADY = settings(deadline=None, derandomize=True)
"""The same examples in every run; remove ``derandomize`` to search for new ones."""


def graphs(most: int = 9) -> st.SearchStrategy[tuple[list[str], int]]:
    """Arguments of `sketch`; printing them is enough to repeat a failure."""
    return st.tuples(st.lists(st.sampled_from(list(MOTIFS)), min_size=2, max_size=most), st.integers(0, 2**16))


def largest(graph: fx.GraphModule, x: Tensor) -> float:
    """The largest absolute value on the way from ``x`` to the result: what rounding is relative to."""
    return max(float(v.abs().max()) for v in _Recorder(graph).all_values(x))


class _Recorder(fx.Interpreter):
    def all_values(self, x: Tensor) -> list[Tensor]:
        self.seen = [x]
        self.run(x)
        return self.seen

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen += [value] if isinstance(value, Tensor) else []
        return value
