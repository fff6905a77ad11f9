"""Scale and shift in one pass over memory."""

from __future__ import annotations

from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_of


def affine_as_depthwise(graph: fx.GraphModule) -> int:
    """scale · x + shift becomes a 1×1 depthwise convolution, where it would be a multiplication and an addition.

    Formats know no affine, so what is left of a batch norm reads and writes its map twice. Measured in LiteRT, 64
    channels at 56×56: 63 → 43 µs, 96 at 28×28: 25 → 20. It counts multiply-accumulates where there were none.
    """
    changed = 0
    for node in list(graph.graph.nodes):
        affine = op_of(graph, node)
        if not isinstance(affine, ops.Affine) or not _takes_two(affine):
            continue
        conv = ops.Conv(affine.scale[:, None, None, None], affine.shift, groups=len(affine.scale))
        graph.set_submodule(str(node.target), conv)
        changed += 1
    return changed


def _takes_two(affine: ops.Affine) -> bool:
    """Both, and not one number for all channels: those are the runtimes' fastest loops."""
    varied = any(bool((v != v[0]).any()) for v in (affine.scale, affine.shift))
    return varied and bool((affine.scale != 1).any() and affine.shift.any())
