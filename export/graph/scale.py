"""Scaling what a convolution returns or reads, by changing its weights alone."""

from __future__ import annotations

from torch import Tensor

from lightseg.export.graph import ops


def scale_outputs(conv: ops.Conv | ops.Deconv, scale: Tensor, shift: Tensor) -> None:
    """Make ``conv`` return scale · y + shift in place of y."""
    per_output = (-1, 1, 1, 1) if isinstance(conv, ops.Conv) else (1, -1, 1, 1)
    conv.weight = conv.weight * scale.view(per_output)
    conv.bias = shift if conv.bias is None else conv.bias * scale + shift


def scale_inputs(conv: ops.Conv, scale: Tensor, shift: Tensor | None = None) -> None:
    """Make ``conv`` of x return what it returned of scale · x + shift."""
    out_channels, per_group = conv.weight.shape[:2]
    grouped_scale = _per_output(scale, conv.groups, out_channels, per_group)
    if shift is not None and shift.any():
        added = (conv.weight.sum((2, 3)) * _per_output(shift, conv.groups, out_channels, per_group)).sum(1)
        conv.bias = added if conv.bias is None else conv.bias + added
    conv.weight = conv.weight * grouped_scale[:, :, None, None]


def _per_output(values: Tensor, groups: int, out_channels: int, per_group: int) -> Tensor:
    """The values each output channel reads: out_channels × per_group."""
    return values.view(groups, 1, per_group).expand(groups, out_channels // groups, per_group).reshape(-1, per_group)
