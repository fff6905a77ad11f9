"""A convolution in groups of odd widths as a dense one: LiteRT's GPU delegate dies of the groups."""

from __future__ import annotations

import torch
from torch import fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes

PACKED = 4
"""Channels a GPU keeps together; a group that is no multiple would begin in the middle of four."""


def dense_groups(graph: fx.GraphModule) -> int:
    """conv in groups becomes conv with zeros between the groups, where their channels do not come in fours.

    Compiling the street SINet's ten such convolutions for the GPU alone ended the process (ai-edge-litert 2.3.0).
    """
    changed = 0
    for _, conv in op_nodes(graph):
        if isinstance(conv, ops.Conv) and conv.groups > 1 and not conv.is_depthwise and _is_odd(conv):
            conv.weight, conv.groups = torch.cat(_spread(conv)), 1
            changed += 1
    return changed


def _is_odd(conv: ops.Conv) -> bool:
    out_channels, per_group = conv.weight.shape[:2]
    return bool(per_group % PACKED or out_channels // conv.groups % PACKED)


def _spread(conv: ops.Conv) -> list[torch.Tensor]:
    """Each group's weights with zeros for the inputs of the others."""
    groups, per_group = conv.weight.chunk(conv.groups), conv.weight.shape[1]
    rows = [conv.weight.new_zeros(len(g), conv.in_channels, *g.shape[2:]) for g in groups]
    for i, (row, group) in enumerate(zip(rows, groups)):
        row[:, i * per_group : (i + 1) * per_group] = group
    return rows
