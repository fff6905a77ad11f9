"""Float16 arithmetic as ARM's kernels do it, in PyTorch: every sum rounded, not the values alone.

The limits of a float16 file know what rounding each value does. Its runtime computes in float32 unless it is asked for
float16, and then the sum of a convolution, too, is rounded after each product. What that may do to a network is found
here by doing it, and is what the emulated ARM processor's float16 rows are held to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from lightseg.export.answers import distance, margin, prepared
from lightseg.export.artifact import Artifact
from lightseg.export.graph import ops
from lightseg.export.graph.capture import capture
from lightseg.export.parity import limits
from lightseg.export.rewrites import rewrite
from lightseg.export.rounding import RoundedGraph, to_eleven_bits
from lightseg.export.runner import torch_runner
from lightseg.export.targets import TARGETS
from lightseg.export.verification import model_of

Cut = Callable[[Tensor], Tensor]
"""Float32 values to the nearest ones of a shorter type."""


def to_float16(x: Tensor) -> Tensor:
    """Rounded to float16's precision and range: what is too large becomes infinite, as in the processor."""
    return x.half().float()


class SummedGraph(RoundedGraph):
    """A graph whose convolutions add in float16: the bias first, then one product after the other, kernel position by
    kernel position and channel by channel, each sum ``cut``. Means and resizes add in float32, and their result is cut.

    Products are exact, as in a fused multiply-add: two values of eleven bits give 22, float32 holds 24.
    """

    def __init__(self, graph: fx.GraphModule, cut: Cut = to_eleven_bits) -> None:
        super().__init__(graph)
        self.cut = cut

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        op = self.fetch_attr(target)
        if isinstance(op, ops.Conv):
            return summed(op, args[0], self.cut)
        if isinstance(op, ops.Deconv):
            return _summed_deconv(op, args[0], self.cut)
        return super().call_module(target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        return self.cut(value) if isinstance(value, Tensor) and value.is_floating_point() else value


def summed(conv: ops.Conv, x: Tensor, cut: Cut = to_eleven_bits) -> Tensor:
    """``conv`` of N×I×H×W values of eleven bits, each sum ``cut``."""
    (down, across), (dy, dx), groups = conv.stride, conv.dilation, conv.groups
    outputs, inputs, rows, columns = conv.weight.shape
    x = pad(x, (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0]))
    height = (x.shape[2] - dy * (rows - 1) - 1) // down + 1
    width = (x.shape[3] - dx * (columns - 1) - 1) // across + 1
    x = x.reshape(len(x), groups, inputs, *x.shape[2:])
    weight = conv.weight.reshape(groups, outputs // groups, inputs, rows, columns, 1, 1)
    bias = torch.zeros(outputs) if conv.bias is None else conv.bias
    total = bias.reshape(1, groups, -1, 1, 1).expand(len(x), -1, -1, height, width).contiguous()
    for row in range(rows):
        for column in range(columns):
            top, left = row * dy, column * dx
            seen = x[..., top : top + down * (height - 1) + 1 : down, left : left + across * (width - 1) + 1 : across]
            for channel in range(inputs):
                total = cut(torch.addcmul(total, seen[:, :, channel, None], weight[:, :, channel, row, column]))
    return total.flatten(1, 2)


def _summed_deconv(op: ops.Deconv, x: Tensor, cut: Cut) -> Tensor:
    """Outputs do not overlap, so every position of the kernel is a 1×1 convolution of its own."""
    inputs, outputs, rows, columns = op.weight.shape
    weight = op.weight.permute(2, 3, 1, 0).reshape(rows * columns * outputs, inputs, 1, 1)
    bias = None if op.bias is None else op.bias.repeat(rows * columns)
    return ops.DepthToSpace(rows).forward(summed(ops.Conv(weight, bias), x, cut))


def for_float16_sums(artifact: Artifact) -> Artifact:
    """The artifact with golden outputs that allow what float16 sums do to the form its file has.

    The rule is that of every float16 limit: a share of the largest logit, and four times the distance that rounding
    causes; but all rounding, and of the rewritten network, whose sums are others than the captured one's.

    Errors: those of `model_of`, which has to find the weights.
    """
    model = model_of(artifact)
    graph = capture(model, *artifact.size, model.spec.multiple)
    exact = torch_runner(copy.deepcopy(graph), double=True)
    if artifact.writer == "direct":
        rewrite(graph, TARGETS[artifact.target].rewrites())
    summed_graph = SummedGraph(graph)
    golden = []
    for one in artifact.golden:
        x = prepared(one.image, artifact.preprocess)
        logits = exact(x)
        found = {one.probe: distance(summed_graph.logits(torch.from_numpy(x)).numpy(), logits)}
        limit = limits(artifact.tolerance, found)[one.probe]
        ties = margin(logits, artifact.labels) <= 2 * limit.largest * abs(logits).max()
        golden.append(replace(one, largest=limit.largest, mean=limit.mean, ties=int(ties.sum())))
    return replace(artifact, golden=tuple(golden))
