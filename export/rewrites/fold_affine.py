"""A convolution's output scaled and shifted per channel is the convolution with other weights."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.scale import scale_outputs


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
