"""A convolution's output scaled and shifted per channel is the convolution with other weights."""

from __future__ import annotations

from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of


def fold_affine(graph: fx.GraphModule) -> int:
    """conv → affine becomes conv, where nothing else reads the convolution."""
    changed = 0
    for node in list(graph.graph.nodes):
        affine = op_of(graph, node)
        if not isinstance(affine, ops.Affine):
            continue
        producer = node.args[0]
        conv = op_of(graph, producer)
        if not isinstance(conv, ops.Conv | ops.Deconv) or len(producer.users) != 1:
            continue
        scale_outputs(conv, affine.scale, affine.shift)
        node.replace_all_uses_with(producer)
        graph.graph.erase_node(node)
        changed += 1
    return changed


def scale_outputs(conv: ops.Conv | ops.Deconv, scale: Tensor, shift: Tensor) -> None:
    """Make ``conv`` return scale · y + shift in place of y."""
    per_output = (-1, 1, 1, 1) if isinstance(conv, ops.Conv) else (1, -1, 1, 1)
    conv.weight = conv.weight * scale.view(per_output)
    conv.bias = shift if conv.bias is None else conv.bias * scale + shift
