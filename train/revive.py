"""Bring released weights into a state that trains: unit-scale inputs, live channels, batch norms that normalise.

The released portrait weights see inputs of standard deviation 1/255, so the eps of the first batch norms outweighs the
variance; many channels died under weight decay. Rescaling a convolution and the batch norm behind it together changes
nothing at inference. Dead channels get small random weights, which changes the function a little; training follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lightseg.spec import Preprocess

PAIRS = (("conv", "bn"), ("pointwise", "bn"), ("spatial", "bn1"), ("pointwise", "bn2"), ("horizontal", "bn_horizontal"))
"""Attributes of one module that are a convolution and the batch norm fed by it alone."""
DEAD = 1e-3
"""A channel is dead when its weights are below this share of the layer's largest."""
KICK = 0.1
"""Size of the new weights, as a share of the living ones'."""
LARGEST = 256.0
"""No filter is scaled beyond this: behind a channel that hardly moves, unit variance would take weights of 1e5."""


def fed_by(net: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Every batch norm whose input is one convolution's output (possibly resized), with that convolution."""
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for first, second in zip(module, list(module)[1:]):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    yield first, second
        for c, b in PAIRS:
            conv, bn = getattr(module, c, None), getattr(module, b, None)
            if isinstance(conv, nn.Conv2d) and isinstance(bn, nn.BatchNorm2d) and conv.out_channels == bn.num_features:
                yield conv, bn


@torch.no_grad()
def rescale(bn: nn.BatchNorm2d, factor: Tensor) -> None:
    """Make ``bn`` give the same for inputs multiplied by ``factor`` (per channel), at inference exactly."""
    assert bn.running_mean is not None and bn.running_var is not None
    before = torch.sqrt(bn.running_var + bn.eps)
    bn.running_mean.mul_(factor)
    bn.running_var.mul_(factor.square())
    bn.weight.mul_(torch.sqrt(bn.running_var + bn.eps) / (factor * before))


@torch.no_grad()
def unit_input(net: nn.Module, preprocess: Preprocess) -> Preprocess:
    """Divide the preprocessing's std by the factor that makes inputs of unit scale, and absorb it in the network."""
    factor = round(sum(preprocess.std) / 3 / 64)
    if factor <= 1:
        return preprocess
    stem, fine = getattr(net, "stem", None), getattr(net, "fine", None)
    assert isinstance(stem, nn.Module)
    first = [stem.conv, *([fine[0]] if isinstance(fine, nn.Sequential) else [])]
    for conv in first:
        assert isinstance(conv, nn.Conv2d)
        conv.weight /= factor
    if isinstance(fine, nn.Sequential):  # the pooled image enters the last three channels of two joins
        for join in (net.join1, net.join2):
            assert isinstance(join, nn.Module) and isinstance(join.bn, nn.BatchNorm2d)
            scale = torch.ones(join.bn.num_features)
            scale[-3:] = factor
            rescale(join.bn, scale)
    r, g, b = (s / factor for s in preprocess.std)
    return replace(preprocess, std=(r, g, b))


@torch.no_grad()
def revive(net: nn.Module, batch: Tensor, seed: int = 0) -> dict[str, int]:
    """Reawaken dead channels of ``net`` in place, with statistics from ``batch`` (N×3×H×W); return the counts.

    A filled row whose batch norm was alive keeps that norm's old statistics, so it starts very quietly.
    """
    rng = torch.Generator().manual_seed(seed)
    counts = {"weights": _fill(net, rng), "norms": 0}
    fresh = {name: _dead(bn.weight) for name, bn in net.named_modules() if isinstance(bn, nn.BatchNorm2d)}
    _measure(net, batch, fresh)
    for name, bn in net.named_modules():
        if isinstance(bn, nn.BatchNorm2d) and bool(fresh[name].any()):
            dead = fresh[name]
            live = bn.weight[~dead].abs().median() if bool((~dead).any()) else torch.tensor(1.0)
            sign = torch.randint(0, 2, dead.shape, generator=rng) * 2.0 - 1.0
            bn.weight[dead] = (KICK if bool((~dead).any()) else 1.0) * live * sign[dead]
            counts["norms"] += int(dead.sum())
    tidy(net)
    return counts


@torch.no_grad()
def tidy(net: nn.Module) -> None:
    """Give every convolution before a batch norm outputs of unit variance, or of less where its weights would
    exceed `LARGEST`; exact at inference, and kind to fp16.
    """
    for conv, bn in fed_by(net):
        assert bn.running_var is not None
        largest = conv.weight.abs().amax((1, 2, 3)).clamp_min(1e-12)
        factor = torch.minimum(bn.running_var.clamp_min(1e-12).rsqrt(), LARGEST / largest)
        conv.weight.mul_(factor[:, None, None, None])
        rescale(bn, factor)
        bn.running_var.copy_(torch.where((bn.running_var - 1).abs() < 1e-5, 1.0, bn.running_var))


def compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` for a file: without batch counters, and in half precision where that loses not a bit."""
    small = {}
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            small[name] = value.half() if torch.equal(value.half().float(), value) else value
    return small


def _dead(values: Tensor) -> Tensor:
    return values.abs() < max(DEAD * float(values.abs().max()), 1e-6)


def _fill(net: nn.Module, rng: torch.Generator) -> int:
    """Random weights for dead output rows (at the layer's scale) and dead input columns (small)."""
    filled = 0
    for module in net.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        w = module.weight
        fan = w[0].numel()
        if float(w.abs().max()) < 1e-6:
            w.copy_(torch.randn(w.shape, generator=rng) * fan**-0.5)
            filled += len(w)
            continue
        rows = _dead(w.square().mean((1, 2, 3)).sqrt())
        scale = w[~rows].square().mean().sqrt()
        w[rows] = torch.randn((int(rows.sum()), *w.shape[1:]), generator=rng) * scale
        columns = _dead(w.square().mean((0, 2, 3)).sqrt())
        w[:, columns] += torch.randn((len(w), int(columns.sum()), *w.shape[2:]), generator=rng) * scale * KICK
        filled += int(rows.sum()) + int(columns.sum())
    return filled


def _measure(net: nn.Module, batch: Tensor, fresh: dict[str, Tensor]) -> None:
    """Set the running statistics of fresh channels to those of ``batch``, in the order of the network."""

    def hook(bn: nn.Module, inputs: tuple[Tensor, ...], dead: Tensor) -> None:
        assert isinstance(bn, nn.BatchNorm2d) and bn.running_mean is not None and bn.running_var is not None
        x = inputs[0].transpose(0, 1).flatten(1)[dead]
        bn.running_mean[dead] = x.mean(1)
        bn.running_var[dead] = x.var(1).clamp_min(1e-10)

    handles = [
        module.register_forward_pre_hook(lambda m, i, dead=fresh[name]: hook(m, i, dead))
        for name, module in net.named_modules()
        if name in fresh and bool(fresh[name].any())
    ]
    was = net.training
    net.eval()(batch)
    net.train(was)
    for handle in handles:
        handle.remove()
