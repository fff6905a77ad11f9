"""What goes wrong with the whole numbers of an int8 file, seeded on purpose into the graph it is written from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightseg.export.defects import Sites, at_sites
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv


def _stale_grid(op: FakeQuantise) -> bool:
    op.scale = (op.scale * 1.05).float().double()
    return True


def _half_range(op: FakeQuantise) -> bool:
    op.scale = op.scale / 2
    return True


def _next_zero(op: FakeQuantise) -> bool:
    """Symmetric grids have no zero point to be wrong."""
    op.zero_point += 1 if op.zero_point < op.high else -1
    return not _symmetric(op)


def _other_sign(op: FakeQuantise) -> bool:
    """The zero point of unsigned bytes where signed ones are meant, or the other way round."""
    op.zero_point += 128 if op.zero_point < 0 else -128
    return not _symmetric(op)


def _symmetric(op: FakeQuantise) -> bool:
    return op.low == -op.high


def _stale_weight_scale(op: QuantisedConv) -> bool:
    integers = op.integer_weight().double()
    op.weight_scale = (op.weight_scale * 1.05).float().double()
    return _written(op, integers)


def _swapped_scales(op: QuantisedConv) -> bool:
    """The weight scales of two neighbours change places."""
    if len(op.weight_scale) < 2:
        return False
    integers, before = op.integer_weight().double(), op.weight_scale
    op.weight_scale = torch.cat([before[1:2], before[:1], before[2:]])
    return _written(op, integers) and bool((before[0] / before[1]).log().abs() > 0.05)


def _one_scale(op: QuantisedConv) -> bool:
    """The scale of the whole tensor for weights that have one per channel."""
    integers, before = op.integer_weight().double(), op.weight_scale
    op.weight_scale = torch.full_like(before, float(before.max()))
    return _written(op, integers) and bool(before.max() > 1.05 * before.min())


def _drop_bias(op: QuantisedConv) -> bool:
    assert op.bias is not None
    before, op.bias = op.bias, torch.zeros_like(op.bias)
    return bool(before.any())


def _stale_bias(op: QuantisedConv) -> bool:
    """The bias on the scale of another input."""
    assert op.bias is not None
    op.bias = torch.round(1.5 * op.bias / op.bias_scale) * op.bias_scale
    return bool(op.bias.any())


def _flip_sign(op: QuantisedConv) -> bool:
    op.weight = torch.cat([-op.weight[:1], op.weight[1:]])
    return bool(op.weight[0].any())


def _next_channel(op: QuantisedConv) -> bool:
    """Every filter one place further on, with its scale and its bias."""
    assert op.bias is not None
    op.weight, op.weight_scale = op.weight.roll(1, 0), op.weight_scale.roll(1, 0)
    op.bias, op.bias_scale = op.bias.roll(1, 0), op.bias_scale.roll(1, 0)
    return len(op.weight) > 1


def _four_bits(op: QuantisedConv) -> bool:
    return _written(op, torch.round(op.integer_weight().double() / 16) * 16)


def _unsigned(op: QuantisedConv) -> bool:
    """Bytes that are meant unsigned, read as signed."""
    return _written(op, (op.integer_weight().double() % 256 - 128).clamp(-127, 127))


def _written(op: QuantisedConv, integers: Tensor) -> bool:
    op.weight = integers.clamp(-127, 127) * op.weight_scale[:, None, None, None]
    return True


GRID_DEFECTS: dict[str, Callable[[Any], Sites]] = {
    "activation scale stale": at_sites(FakeQuantise, _stale_grid),
    "activation range halved": at_sites(FakeQuantise, _half_range),
    "zero point off by one": at_sites(FakeQuantise, _next_zero),
    "zero point of the other sign": at_sites(FakeQuantise, _other_sign),
    "weight scale stale": at_sites(QuantisedConv, _stale_weight_scale),
    "weight scales swapped": at_sites(QuantisedConv, _swapped_scales),
    "one weight scale for all channels": at_sites(QuantisedConv, _one_scale),
    "bias dropped": at_sites(QuantisedConv, _drop_bias),
    "bias on a stale scale": at_sites(QuantisedConv, _stale_bias),
    "one filter's sign flipped": at_sites(QuantisedConv, _flip_sign),
    "output channels one place on": at_sites(QuantisedConv, _next_channel),
    "weights of four bits": at_sites(QuantisedConv, _four_bits),
    "weights of unsigned bytes": at_sites(QuantisedConv, _unsigned),
}
