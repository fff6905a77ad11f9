"""Upsampling and a convolution of very few channels, with the columns in the vector lanes."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.export.graph import ops
from lightseg.export.graph.edit import insert, op_of, sole_user
from lightseg.export.graph.shapes import shapes

LANES = 16
"""Output values per block: as many as the widest float32 vectors hold."""
MOST_CHANNELS = 4


def pack_columns(graph: fx.GraphModule) -> int:
    """upsample → … → k×k convolution becomes a vertical resize and one grouped k×1 convolution over columns.

    Two channels at full resolution leave most lanes of a vector empty. With columns as channels, which costs nothing
    where channels come last, the vertical part of the upsampling runs on full vectors; its horizontal part and the
    convolution's horizontal taps are one linear map from columns to columns, banded, written as a grouped convolution
    over blocks of columns and their neighbours. A convolution of ones gathers those, where the map is smallest.
    Measured for SINet's last two layers in LiteRT: 0.35 of the time.
    """
    size = shapes(graph, graph.meta["input_shape"])
    changed = 0
    for node in list(graph.graph.nodes):
        conv = op_of(graph, node)
        if not isinstance(conv, ops.Conv) or not _is_small(conv):
            continue
        chain = _upsamples(graph, node)
        if not chain:
            continue
        source = chain[0].args[0]
        assert isinstance(source, fx.Node)
        packed = _packed(conv, [op_of(graph, up) for up in chain], size[source][3])  # type: ignore[misc]
        if packed is None:
            continue
        _replace(graph, node, chain, source, *packed)
        changed += 1
    return changed


def _is_small(conv: ops.Conv) -> bool:
    kh, kw = conv.weight.shape[2:]
    keeps_size = conv.stride == conv.dilation == (1, 1) and conv.padding == (kh // 2, kw // 2) and kh % 2 == kw % 2 == 1
    return keeps_size and conv.groups == 1 and max(conv.weight.shape[:2]) <= MOST_CHANNELS


def _upsamples(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """The upsamplings in front of ``node`` that nothing else reads, first to last."""
    chain: list[fx.Node] = []
    value = node.args[0]
    while isinstance(value, fx.Node) and isinstance(op_of(graph, value), ops.Upsample):
        if not sole_user(value, chain[0] if chain else node):
            break
        chain.insert(0, value)
        value = value.args[0]
    return chain


def _packed(conv: ops.Conv, chain: list[ops.Upsample], columns: int) -> tuple[ops.Conv, ops.Conv] | None:
    """What gathers neighbours and the grouped convolution; None where a block needs more than its direct ones."""
    stretch = torch.eye(columns, dtype=torch.float64)
    for up in chain:
        stretch = interpolation(stretch.shape[0], up.factor, up.align_corners) @ stretch
    factor = stretch.shape[0] // columns
    cout, cin = conv.weight.shape[:2]
    block = next((b for b in range(2, columns) if columns % b == 0 and b * factor * cout >= LANES), None)
    if block is None:
        return None
    weight = _blocked(_horizontal(conv.weight, stretch), columns // block)
    if weight is None:
        return None
    bias = None if conv.bias is None else conv.bias.repeat(columns * factor)
    blocks = columns // block
    return _gather(cin, block, weight.dtype), ops.Conv(weight, bias, (1, 1), (conv.padding[0], 0), (1, 1), blocks)


def _gather(channels: int, block: int, dtype: torch.dtype) -> ops.Conv:
    """Every block of columns with the nearest one of its neighbours, as channels of one column; zeros beyond."""
    window = block + 2
    ones = torch.eye(window * channels, dtype=dtype).view(window * channels, window, 1, channels)
    return ops.Conv(ones.permute(0, 3, 2, 1).contiguous(), None, (1, block), (0, 1))


def interpolation(size: int, factor: int, align_corners: bool) -> Tensor:
    """Bilinear upsampling along one axis as a matrix, size·factor × size."""
    unit = torch.eye(size, dtype=torch.float64)[:, None, :, None]
    mode = {"size": (size * factor, 1), "mode": "bilinear", "align_corners": align_corners}
    return torch.nn.functional.interpolate(unit, **mode)[:, 0, :, 0].T  # type: ignore[arg-type]


def _horizontal(weight: Tensor, stretch: Tensor) -> Tensor:
    """The map of one vertical tap: wide column, output channel, column, input channel, vertical tap."""
    kw = weight.shape[3]
    wide = stretch.shape[0]
    padded = torch.nn.functional.pad(stretch, (0, 0, kw // 2, kw // 2))
    shifted = torch.stack([padded[j : j + wide] for j in range(kw)])
    return torch.einsum("jXx,ocij->Xoxci", shifted, weight)


def _blocked(operator: Tensor, blocks: int) -> Tensor | None:
    """The band of ``operator`` around its diagonal of blocks as grouped convolution weights."""
    wide, cout, columns, cin, kh = operator.shape
    block, rows = columns // blocks, wide // blocks
    padded = torch.nn.functional.pad(operator, (0, 0, 0, 0, 1, 1))
    weight = torch.zeros(blocks, rows * cout, (block + 2) * cin, kh, 1, dtype=operator.dtype)
    kept = torch.zeros((), dtype=operator.dtype)
    for b in range(blocks):
        window = padded[b * rows : (b + 1) * rows, :, b * block : b * block + block + 2]
        weight[b] = window.reshape(rows * cout, (block + 2) * cin, kh, 1)
        kept += window.abs().sum()
    whole = bool(torch.isclose(kept, operator.abs().sum(), rtol=1e-12))
    return weight.flatten(0, 1) if whole else None


def _replace(
    graph: fx.GraphModule, node: fx.Node, chain: list[fx.Node], source: fx.Node, gather: ops.Conv, conv: ops.Conv
) -> None:
    value = insert(graph, source, f"{node.name}_gathered", gather, source)
    value = insert(graph, value, f"{node.name}_columns", ops.ColumnsToChannels(), value)
    for up in chain:
        op = op_of(graph, up)
        assert isinstance(op, ops.Upsample)
        value = insert(graph, value, f"{up.name}_rows", ops.StretchRows(op.factor, op.align_corners), value)
    value = insert(graph, value, f"{node.name}_packed", conv, value)
    old = op_of(graph, node)
    assert isinstance(old, ops.Conv)
    node.replace_all_uses_with(
        insert(graph, value, f"{node.name}_pixels", ops.ChannelsToColumns(old.weight.shape[0]), value)
    )
    graph.graph.erase_node(node)
