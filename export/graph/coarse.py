"""A network that decides once per block of pixels: not the network, and so only under its own name."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import finish, op_of, sole_user

POINTWISE = (ops.Affine, ops.PReLU)


def coarsen(graph: fx.GraphModule) -> None:
    """Take the last upsampling out of ``graph``, and let what follows it answer at the pixels in front of it.

    What works pixel by pixel stays as it is. A k×k convolution behind an upsampling reads between the pixels, so its
    taps are shared out as bilinear interpolation shares them; a transposed convolution becomes its mean over a block.
    A graph that is coarse already is left alone. Errors: `Unsupported` where a network does not end in an upsampling.
    """
    if graph.meta.get("coarse"):
        return
    end = next(n for n in graph.graph.nodes if n.op == "output")
    value, between = end.args[0], list[ops.Conv]()
    while not isinstance(op_of(graph, value), ops.Upsample | ops.Deconv):
        op = op_of(graph, value)
        if isinstance(op, ops.Conv) and _centred(op):
            between.append(op)
        elif not isinstance(op, POINTWISE):
            raise Unsupported("mask_coarse is for networks that end in an upsampling; use --output mask")
        value = value.args[0]
    last = op_of(graph, value)
    wide = [conv for conv in between if conv.weight.shape[2:] != (1, 1)]
    if isinstance(last, ops.Deconv) and not wide:
        graph.set_submodule(str(value.target), _block_mean(last))
    elif isinstance(last, ops.Upsample) and _follows(graph, value, wide):
        for conv in wide:
            conv.weight = _between(_between(conv.weight, last.factor, 2), last.factor, 3)
            conv.padding = (conv.weight.shape[2] // 2, conv.weight.shape[3] // 2)
        value.replace_all_uses_with(value.args[0])
        graph.graph.erase_node(value)
    else:
        raise Unsupported("mask_coarse is for networks that end in an upsampling; use --output mask")
    graph.meta["coarse"] = True
    finish(graph)


def _centred(conv: ops.Conv) -> bool:
    kh, kw = conv.weight.shape[2:]
    whole = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    return whole and kh % 2 == kw % 2 == 1 and conv.padding == (kh // 2, kw // 2)


def _follows(graph: fx.GraphModule, upsample: fx.Node, wide: list[ops.Conv]) -> bool:
    """Whether at most one convolution sees several pixels, and it reads the upsampling itself."""
    reader = next(iter(upsample.users))
    return sole_user(upsample, reader) and (not wide or wide == [op_of(graph, reader)])


def _block_mean(deconv: ops.Deconv) -> ops.Conv:
    return ops.Conv(deconv.weight.mean((2, 3)).T[:, :, None, None].contiguous(), deconv.bias)


def _between(weight: Tensor, factor: int, axis: int) -> Tensor:
    """Taps at distances of 1/``factor`` pixels along ``axis``, as taps at whole pixels."""
    reach = weight.shape[axis] // 2
    whole = -(-reach // factor)
    places = torch.arange(-reach, reach + 1, dtype=weight.dtype)[:, None] / factor
    taps = torch.arange(-whole, whole + 1, dtype=weight.dtype)
    shares = (1 - (places - taps).abs()).clamp(min=0)
    shared: Tensor = torch.tensordot(weight, shares, ([axis], [0])).movedim(-1, axis).contiguous()
    return shared
