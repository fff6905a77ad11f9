"""The shape of every value of a graph, from the operations' definitions alone."""

from __future__ import annotations

from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of

Shape = tuple[int, ...]


def shapes(graph: fx.GraphModule, input_shape: Shape) -> dict[fx.Node, Shape]:
    """N×C×H×W of every node, for an input of ``input_shape`` (N×H×W×3 where the graph takes images)."""
    known: dict[fx.Node, Shape] = {}
    for node in graph.graph.nodes:
        op = op_of(graph, node)
        if node.op == "placeholder":
            known[node] = input_shape
        elif op is not None:
            known[node] = _shape(op, [known[source] for source in node.args])
    return known


def _shape(op: nn.Module, inputs: list[Shape]) -> Shape:
    n, c, h, w = inputs[0]
    if isinstance(op, ops.Conv):
        size = (_reach((h, w)[i], op.weight.shape[2 + i], op.stride[i], op.padding[i], op.dilation[i]) for i in (0, 1))
        return (n, op.weight.shape[0], *size)
    if isinstance(op, ops.Deconv):
        return (n, op.weight.shape[1], h * op.weight.shape[2], w * op.weight.shape[3])
    if isinstance(op, ops.Concat):
        return (n, sum(s[1] for s in inputs), h, w)
    if isinstance(op, ops.Mul):
        return tuple(max(sizes) for sizes in zip(*inputs))
    if isinstance(op, ops.AvgPool):
        return (n, c, h // op.factor, w // op.factor)
    if isinstance(op, ops.Upsample):
        return (n, c, h * op.factor, w * op.factor)
    if isinstance(op, ops.GlobalMean):
        return (n, c, 1, 1)
    if isinstance(op, ops.MaxChannel | ops.ArgMax):
        return (n, 1, h, w)
    if isinstance(op, ops.FirstChannels):
        return (n, op.count, h, w)
    if isinstance(op, ops.DepthToSpace):
        return (n, c // op.block**2, h * op.block, w * op.block)
    if isinstance(op, ops.FromImage):
        return (n, w, c, h)
    if isinstance(op, ops.ColumnsToChannels):
        return (n, w * c, h, 1)
    if isinstance(op, ops.ChannelsToColumns):
        return (n, op.channels, h, c // op.channels)
    if isinstance(op, ops.StretchRows):
        return (n, c, h * op.factor, 1)
    if isinstance(op, ops.Whole):
        return (n, op.channels, h // op.stride, w // op.stride)
    return inputs[0]


def _reach(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
