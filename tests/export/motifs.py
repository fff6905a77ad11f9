"""The motifs random graphs are made of: what networks contain, and what they might.

Each adds a few operations to a sketch, reading any of its values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lightseg.export.graph import ops
from tests.export.graph_builder import MULTIPLE, POINT, Sketch


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


def _first_channels(s: Sketch) -> None:
    v, n = s.pick(), s.rng.choice([1, 2, 5])
    s.put(ops.FirstChannels(n), s.dense(v, n + 2) if s.rng.random() < 0.7 else s.dense(v, n), channels=n)


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


def _residual(s: Sketch) -> None:
    """What a squeeze module adds to and hands on: scaled skip, PReLU, two readers, one of them the next skip."""
    v = s.pick()
    c = v.channels
    for _ in range(s.rng.choice([1, 2])):
        skip = s.put(ops.Affine(s.between(-2, 2, c), torch.zeros(c, dtype=torch.float64)), v)
        v = s.put(s.prelu(c), s.put(ops.Add(), *s.shuffled(skip, s.put(s.conv(c, c), v))))
    other = s.like(v)
    joined = s.put(ops.Concat(), *s.shuffled(v, other), channels=2 * c)
    s.dense(s.put(s.prelu(2 * c), s.put(s.affine(2 * c), joined)), 2)


def _scaled_act(s: Sketch) -> None:
    """An affine of moderate scale that no convolution takes, PReLU, a padded convolution."""
    v = s.pick()
    c = v.channels
    kept = s.put(ops.Sigmoid(), v)
    act = s.put(s.prelu(c), s.put(ops.Affine(s.between(0.2, 2, c) * s.signs(c), s.normal(c)), kept))
    s.put(s.conv(c, c, (3, 3), groups=c), act)


def _pooled_pointwise(s: Sketch) -> None:
    """A 1×1 convolution that pools alone read, of one window or of two."""
    v = s.pick(lambda v: v.stride * 4 <= MULTIPLE)
    if v.stride * 4 <= MULTIPLE:
        n = _width(s)
        narrow = s.put(s.conv(v.channels, n), v, channels=n)
        for factor in s.rng.choice([[2], [4, 2], [2, 2]]):
            pooled = s.put(ops.AvgPool(factor), narrow, stride=v.stride * factor)
            s.put(s.conv(n, n, (3, 3), groups=n), pooled)


def _gated(s: Sketch) -> None:
    """A map times a gate of one channel."""
    v = s.pick()
    gate = s.put(ops.Sigmoid(), s.put(s.affine(1), s.put(ops.Abs(), s.dense(v, 1))), channels=1)
    s.put(ops.Mul(), *s.shuffled(gate, v), channels=v.channels)


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
    "first channels": _first_channels,
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
    "residual": _residual,
    "scaled, act": _scaled_act,
    "pooled pointwise": _pooled_pointwise,
    "gated": _gated,
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
