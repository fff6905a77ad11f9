"""Convolutions as operations of XNNPACK's delegate, in float and in eight bits, and the grids between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.writers.xnnpack_graph import NOTHING, GraphWriter, Ids

QCINT8, QCINT32 = 6, 7
"""Element types by the schema's number, with one scale per channel."""
FINEST = 256
"""XNNPACK creates no convolution whose result has a step this many times finer than its products have."""


def conv(w: GraphWriter, node: fx.Node, op: ops.Conv, x: Ids) -> int:
    bias = w.constant(op.bias) if op.bias is not None else NOTHING
    return _conv(
        w, op, {"input1_id": x[0], "filter_id": w.constant(_laid_out(op, op.weight)), "bias_id": bias}, w.out(node)
    )


def quantised_conv(w: GraphWriter, node: fx.Node, op: QuantisedConv, x: Ids) -> int:
    """int8 in, int8 out on the grid of the `FakeQuantise` that reads it; int8 weights, int32 biases.

    Errors: `Unsupported` where something else reads it too, as no kernel returns wider numbers, and where the grids of
    what it reads and returns are too far apart.
    """
    reader, *others = node.users
    grid = op_of(w.graph, reader)
    if others or not isinstance(grid, FakeQuantise):
        raise Unsupported(f"{node.name} returns int8 in ExecuTorch and is read in float; quantise what it returns")
    finer = float((op.bias_scale / grid.scale).max())
    if finer >= FINEST:
        raise Unsupported(
            f"{node.name} returns steps {finer:.0f} times finer than those of its products, and XNNPACK's int8 goes up "
            f"to {FINEST}; use --precision fp32"
        )
    channels = 3 if op.is_depthwise else 0
    kernel = w.integers(_laid_out(op, op.integer_weight()), QCINT8, op.weight_scale, channels)
    bias = w.integers(_array(op.integer_bias()), QCINT32, op.bias_scale, 0)
    return _conv(w, op, {"input1_id": x[0], "filter_id": kernel, "bias_id": bias}, _on_grid(w, reader, grid))


def fake_quantise(w: GraphWriter, node: fx.Node, op: FakeQuantise, x: Ids) -> int:
    """The int8 value; a convolution that computes in eight bits has made it already."""
    source = node.all_input_nodes[0]
    if isinstance(op_of(w.graph, source), QuantisedConv):
        return w.values[source]
    return w.node("Convert", _on_grid(w, node, op), input_id=x[0])


def _on_grid(w: GraphWriter, node: fx.Node, grid: FakeQuantise) -> int:
    """Errors: `Unsupported` for ends that int8 kernels do not clamp to."""
    if (grid.low, grid.high) != (-128, 127):
        raise Unsupported(f"{node.name} is quantised to {grid.low}…{grid.high}, where XNNPACK's int8 has -128…127")
    return w.out(node, grid=(float(grid.scale), grid.zero_point))


def deconv(w: GraphWriter, node: fx.Node, op: ops.Deconv, x: Ids) -> int:
    weight = _array(op.weight)
    kernel = weight.shape[2:]
    bias = w.constant(op.bias) if op.bias is not None else NOTHING
    ids = {"input1_id": x[0], "filter_id": w.constant(weight.transpose(1, 2, 3, 0)), "bias_id": bias}
    return _window(w, "ConvTranspose2d", w.out(node), kernel, kernel, (0, 0), (1, 1), 1, weight.shape[:2], ids)


def _conv(w: GraphWriter, op: ops.Conv, ids: dict[str, Any], y: int) -> int:
    kind = "DepthwiseConv2d" if op.is_depthwise else "Conv2d"
    size = op.weight.shape
    per_group = size[1], size[0] // op.groups
    return _window(w, kind, y, size[2:], op.stride, op.padding, op.dilation, op.groups, per_group, ids)


def _laid_out(op: ops.Conv, weight: Tensor) -> NDArray[Any]:
    """O×kh×kw×I; of a depthwise convolution 1×kh×kw×O."""
    return _array(weight).transpose((1, 2, 3, 0) if op.is_depthwise else (0, 2, 3, 1))


def _window(
    w: GraphWriter,
    kind: str,
    y: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    per_group: Sequence[int],
    ids: dict[str, Any],
) -> int:
    facts: dict[str, Any] = dict.fromkeys(("adjustment_height", "adjustment_width"), 0)
    facts |= {"padding_top": padding[0], "padding_bottom": padding[0]}
    facts |= {"padding_left": padding[1], "padding_right": padding[1]}
    for name, pair in (("kernel", kernel), ("subsampling", stride), ("dilation", dilation)):
        facts |= {f"{name}_height": int(pair[0]), f"{name}_width": int(pair[1])}
    facts |= {"groups": groups, "group_input_channels": per_group[0], "group_output_channels": per_group[1]}
    return w.node(kind, y, **facts, **ids)


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
