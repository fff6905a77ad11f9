"""What comes out the same for every image need not be computed."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.shapes import shapes

UNKNOWN = float("nan")
PASSING = (ops.AvgPool, ops.GlobalMean, ops.Upsample)
POINTWISE = (ops.PReLU, ops.Sigmoid, ops.Abs, ops.Positives, ops.Negatives, ops.Permute)


def drop_constant(graph: fx.GraphModule) -> int:
    """x + y becomes x + shift where weights of zero make every channel of y one number everywhere.

    Released weights have such branches: what trained to zero (or to denormal floats, zeroed when they are loaded)
    stays in the architecture.
    """
    if not any(_cuts(op) for op in graph.children()):
        return 0
    known = _constants(graph)
    return sum(_drop(graph, node, known) for node in list(graph.graph.nodes))


def _drop(graph: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Tensor]) -> bool:
    if not isinstance(op_of(graph, node), ops.Add):
        return False
    for kept, constant in (node.args, node.args[::-1]):
        assert isinstance(kept, fx.Node) and isinstance(constant, fx.Node)
        shift = known[constant]
        if not shift.isnan().any() and known[kept].isnan().any():
            graph.set_submodule(str(node.target), ops.Affine(torch.ones_like(shift), shift))
            node.args = (kept,)
            return True
    return False


def _cuts(op: nn.Module) -> bool:
    """Whether some output channel reads nothing: where constants come from."""
    if isinstance(op, ops.Conv):
        return bool((op.weight == 0).flatten(1).all(1).any())
    if isinstance(op, ops.Deconv):
        return bool((op.weight == 0).transpose(0, 1).flatten(1).all(1).any())
    return isinstance(op, ops.Affine) and bool((op.scale == 0).any())


def _constants(graph: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Per value and channel the number it is at every pixel, NaN where it depends on the image or the place."""
    size = shapes(graph, graph.meta["input_shape"])
    known: dict[fx.Node, Tensor] = {}
    for node in graph.graph.nodes:
        if node.op != "output":
            inputs = [known[source] for source in node.args]
            found = _through(op_of(graph, node), inputs)
            known[node] = torch.full(size[node][1:2], UNKNOWN, dtype=torch.float64) if found is None else found
    return known


def _through(op: nn.Module | None, inputs: list[Tensor]) -> Tensor | None:
    if isinstance(op, ops.Conv):
        return _through_conv(op, inputs[0])
    if isinstance(op, ops.Deconv):
        empty = (op.weight == 0).transpose(0, 1).flatten(1).all(1)
        return torch.where(empty, torch.zeros_like(op.weight[0, :, 0, 0]) if op.bias is None else op.bias, UNKNOWN)
    if isinstance(op, ops.Affine):
        return torch.where(op.scale == 0, op.shift, inputs[0] * op.scale + op.shift)
    if isinstance(op, POINTWISE):
        result: Tensor = op(inputs[0][None, :, None, None])
        return result.flatten()
    if isinstance(op, PASSING):
        return inputs[0]
    if isinstance(op, ops.Concat):
        return torch.cat(inputs)
    if isinstance(op, ops.Add):
        return inputs[0] + inputs[1]
    return None


def _through_conv(conv: ops.Conv, known: Tensor) -> Tensor:
    """An input channel that is one number may be read, but next to zero padding only if the number is zero."""
    out_channels, per_group = conv.weight.shape[:2]
    read = known.view(conv.groups, 1, per_group).expand(-1, out_channels // conv.groups, -1).reshape(-1, per_group)
    unused = (conv.weight == 0).flatten(2).all(2)
    usable = ~read.isnan() if conv.padding == (0, 0) else read == 0
    total = (conv.weight.sum((2, 3)) * torch.where(usable, read, 0)).sum(1)
    total = total if conv.bias is None else total + conv.bias
    return torch.where((unused | usable).all(1), total, UNKNOWN)
