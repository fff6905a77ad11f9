"""What goes wrong in the field, seeded on purpose: each defect is one that some public port was shipped with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_nodes
from lightseg.spec import Preprocess
from lightseg.zoo import SegmentationModel

Sites = Iterator[fx.GraphModule]
"""Copies of one graph, each with the defect in another place."""


def at_sites(kind: type[nn.Module], change: Callable[[Any], bool]) -> Callable[[fx.GraphModule], Sites]:
    """``change`` applied to the first, the middle and the last operation of a kind it has something to do for."""

    def defect(graph: fx.GraphModule) -> Sites:
        trial = copy.deepcopy(graph)
        able = [str(n.target) for n, op in op_nodes(trial) if type(op) is kind and change(op)]
        for name in sorted({able[i] for i in (0, len(able) // 2, -1)} if able else set()):
            damaged = copy.deepcopy(graph)
            change(damaged.get_submodule(name))
            yield damaged

    return defect


def _everywhere(kind: type[nn.Module], change: Callable[[Any], bool]) -> Callable[[fx.GraphModule], Sites]:
    """``change`` applied to every operation of a kind."""

    def defect(graph: fx.GraphModule) -> Sites:
        damaged = copy.deepcopy(graph)
        for _, op in op_nodes(damaged):
            if type(op) is kind:
                change(op)
        yield damaged

    return defect


def _flip_corners(op: ops.Upsample) -> bool:
    op.align_corners = not op.align_corners
    return True


def _drop_negative_slopes(op: ops.PReLU) -> bool:
    before, op.slope = op.slope, op.slope.clamp(min=0)
    return bool((before != op.slope).any())


def _leak_as_maximum(op: ops.PReLU) -> bool:
    """max(x, slope · x), wrong for slopes above one: the same as swapping the sides."""
    above = op.slope > 1
    op.slope = torch.where(above, torch.ones_like(op.slope), op.slope)
    return bool(above.any())


def _shift_window(op: ops.Conv) -> bool:
    """The window one pixel off: padded (0, 2) in place of (1, 1), as SAME padding does at stride two."""
    if op.weight.shape[2:] != (3, 3) or op.padding != op.dilation:
        return False
    wide = torch.zeros(*op.weight.shape[:2], 5, 5, dtype=op.weight.dtype)
    wide[:, :, 2:, 2:] = op.weight
    op.weight, op.padding = wide, (2 * op.dilation[0], 2 * op.dilation[1])
    return True


def _drop_padding_zeros(op: ops.Conv) -> bool:
    """One row and column of padding less at the start, one more at the end, by moving the weights."""
    if op.padding == (0, 0) or op.dilation != (1, 1) or min(op.weight.shape[2:]) < 3:
        return False
    op.weight = op.weight.roll((1, 1), (2, 3))
    return True


def _transpose_window(op: ops.Conv) -> bool:
    if op.weight.shape[2] != op.weight.shape[3] or op.weight.shape[2] == 1:
        return False
    op.weight = op.weight.transpose(2, 3).contiguous()
    return True


def _mix_layout(op: ops.Conv) -> bool:
    """Output and input channels of a weight read in the wrong order."""
    o, i = op.weight.shape[:2]
    if op.groups > 1 or min(o, i) < 2:
        return False
    op.weight = op.weight.permute(1, 0, 2, 3).reshape(op.weight.shape)
    return True


def _ignore_dilation(op: ops.Conv) -> bool:
    if op.dilation == (1, 1):
        return False
    op.padding = (op.padding[0] // op.dilation[0], op.padding[1] // op.dilation[1])
    op.dilation = (1, 1)
    return True


def _unshuffle(op: ops.Permute) -> bool:
    op.index = torch.arange(len(op.index))
    return True


def _shuffle_backwards(op: ops.Permute) -> bool:
    back = torch.argsort(op.index)
    changed = bool((back != op.index).any())
    op.index = back
    return changed


def _drop_shift(op: ops.Affine) -> bool:
    changed = bool(op.shift.any())
    op.shift = torch.zeros_like(op.shift)
    return changed


def _stale(op: ops.Conv) -> bool:
    """A layer from an earlier epoch: every weight two per cent off."""
    noise = torch.randn(op.weight.shape, dtype=op.weight.dtype, generator=torch.Generator().manual_seed(1))
    op.weight = op.weight * (1 + 0.02 * noise)
    return True


def _make_nan(op: ops.Conv) -> bool:
    op.weight = op.weight.clone()
    op.weight.view(-1)[0] = torch.nan
    return True


def _drop_branch(graph: fx.GraphModule) -> Sites:
    """A sum that keeps one side only: the first sum and the last, each side."""
    sums = [n.name for n, op in op_nodes(graph) if isinstance(op, ops.Add)]
    for name in sorted({sums[0], sums[-1]} if sums else set()):
        for side in (0, 1):
            damaged = copy.deepcopy(graph)
            node = next(n for n in damaged.graph.nodes if n.name == name)
            node.replace_all_uses_with(node.args[side])
            damaged.graph.eliminate_dead_code()
            damaged.recompile()
            yield damaged


def _on_output(make: Callable[[int], nn.Module]) -> Callable[[fx.GraphModule], Sites]:
    def defect(graph: fx.GraphModule) -> Sites:
        damaged = copy.deepcopy(graph)
        end = next(n for n in damaged.graph.nodes if n.op == "output")
        channels = int(damaged(torch.zeros(damaged.meta["input_shape"], dtype=torch.float64)).shape[1])
        end.args = (insert(damaged, end.args[0], "damage", make(channels), end.args[0]),)
        damaged.recompile()
        yield damaged

    return defect


def _swap_classes(channels: int) -> nn.Module:
    """The first two classes change places; of a single logit the sign."""
    if channels == 1:
        return ops.Affine(torch.tensor([-1.0]).double(), torch.zeros(1).double())
    return ops.Permute(torch.tensor([1, 0, *range(2, channels)]))


GRAPH_DEFECTS: dict[str, Callable[[fx.GraphModule], Sites]] = {
    "align_corners flipped": at_sites(ops.Upsample, _flip_corners),
    "negative slopes dropped": at_sites(ops.PReLU, _drop_negative_slopes),
    "slopes above one cut": at_sites(ops.PReLU, _leak_as_maximum),
    "padding off by one": at_sites(ops.Conv, _shift_window),
    "kernel rolled": at_sites(ops.Conv, _drop_padding_zeros),
    "kernel height and width swapped": at_sites(ops.Conv, _transpose_window),
    "weight layout mixed up": at_sites(ops.Conv, _mix_layout),
    "dilation ignored": at_sites(ops.Conv, _ignore_dilation),
    "channel shuffle dropped": at_sites(ops.Permute, _unshuffle),
    "channel shuffle inverted": at_sites(ops.Permute, _shuffle_backwards),
    "batch-norm shift dropped": at_sites(ops.Affine, _drop_shift),
    "stale weights": _everywhere(ops.Conv, _stale),
    "stale weights in one layer": at_sites(ops.Conv, _stale),
    "a weight is NaN": at_sites(ops.Conv, _make_nan),
    "branch dropped": _drop_branch,
    "classes swapped": _on_output(_swap_classes),
}


def other_eps(graph: fx.GraphModule, model: SegmentationModel, eps: float) -> fx.GraphModule:
    """The graph as if every batch norm had ``eps``."""
    norms = {n.replace(".", "_"): m for n, m in model.net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    damaged = copy.deepcopy(graph)
    found = 0
    for node, op in op_nodes(damaged):
        norm = norms.get(str(node.target))
        if isinstance(op, ops.Affine) and norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            op.scale = (norm.weight.double() / torch.sqrt(norm.running_var.double() + eps)).detach()
            op.shift = (norm.bias - norm.running_mean * op.scale).detach()
            found += 1
    assert found > 10, "batch norms are no longer found by their names"
    return damaged


def _times(std: tuple[float, float, float], *factors: float) -> tuple[float, float, float]:
    return std[0] * factors[0], std[1] * factors[-2], std[2] * factors[-1]


def _swapped(p: Preprocess) -> Preprocess:
    return replace(p, order="RGB" if p.order == "BGR" else "BGR")


PREPROCESS_DEFECTS: dict[str, Callable[[Preprocess], Preprocess]] = {
    "channel order swapped": _swapped,
    "channel order swapped, statistics too": lambda p: replace(_swapped(p), mean=p.mean[::-1], std=p.std[::-1]),
    "division by 255 missing": lambda p: replace(p, std=_times(p.std, 1 / 255, 1 / 255)),
    "division by 255 doubled": lambda p: replace(p, std=_times(p.std, 255, 255)),
    "mean missing": lambda p: replace(p, mean=(0.0, 0.0, 0.0)),
    "standard deviation missing": lambda p: replace(p, std=(255.0, 255.0, 255.0)),
    "statistics of another data set": lambda p: replace(
        p, mean=(127.5, 127.5, 127.5), std=_times(p.std, 1.1, 0.9, 1.2)
    ),
}
"""By what is done to the preprocessing that is baked."""

Answer = NDArray[Any]
RUNNER_DEFECTS: dict[str, Callable[[Callable[[Answer], Answer], Answer], Answer]] = {
    "input NCHW read as NHWC": lambda run, x: run(
        np.ascontiguousarray(x.reshape(x.shape[0], x.shape[2], x.shape[3], x.shape[1]).transpose(0, 3, 1, 2))
    ),
    "output NHWC read as NCHW": lambda run, x: _reread(run(x)),
    "rows upside down": lambda run, x: run(x)[:, :, ::-1],
    "mirrored": lambda run, x: run(x)[..., ::-1],
    "one pixel to the right": lambda run, x: np.roll(run(x), 1, 3),
    "NaN in one pixel": lambda run, x: _with(run(x), np.nan),
    "infinity in one pixel": lambda run, x: _with(run(x), np.inf),
    "all NaN": lambda run, x: np.full_like(run(x), np.nan),
    "all zero": lambda run, x: np.zeros_like(run(x)),
    "beyond the range of float16": lambda run, x: _overflowed(run(x)),
}
"""By what the runtime does with a right file."""

COARSE_DEFECTS: dict[str, Callable[[Callable[[Answer], Answer], Answer], Answer]] = {
    "scaled by 1.001": lambda run, x: run(x) * 1.001,
    "logits in bfloat16": lambda run, x: torch.from_numpy(run(x).copy()).bfloat16().float().numpy(),
}
"""The same, too small to be a defect of anything less precise than float32."""


def _reread(y: Answer) -> Answer:
    n, c, h, w = y.shape
    return y.transpose(0, 2, 3, 1).reshape(n, c, h, w) if c > 1 else y.transpose(0, 1, 3, 2).reshape(n, c, h, w)


def _overflowed(y: Answer) -> Answer:
    """The largest answers became infinite, the rest is right."""
    lost: Answer = np.where(np.abs(y) > 0.9 * np.abs(y).max(), np.copysign(np.inf, y), y)
    return lost


def _with(y: Answer, value: float) -> Answer:
    changed: Answer = y.copy()
    changed[0, 0, y.shape[2] // 2, 0] = value
    return changed
