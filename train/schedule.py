"""Parameter groups, the learning rate over time, and the moving average of the weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from lightseg.train.recipe import Recipe


def parameter_groups(net: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Dense convolutions, depthwise convolutions and everything else, each with its own weight decay."""
    dense: list[Tensor] = []
    depthwise: list[Tensor] = []
    other: list[Tensor] = []
    seen: set[int] = set()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            (depthwise if module.groups == module.in_channels > 1 else dense).append(module.weight)
            seen.add(id(module.weight))
    other = [p for p in net.parameters() if id(p) not in seen]
    decays = (recipe.decay_dense, recipe.decay_depthwise, recipe.decay_other)
    return [{"params": p, "weight_decay": d} for p, d in zip((dense, depthwise, other), decays) if p]


def optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = parameter_groups(net, recipe)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, recipe.lr)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate for optimiser step ``step`` (from 0).

    ``cosine``: linear warm-up over ``warmup_steps``, then half a cosine to zero. ``halve``: ×½ at E/2 and again at
    E − E/6. ``poly``: per epoch e, lr·((e+1)/W)^.98 in the first W = warmup_share·E epochs, then
    lr·(1 − (e − W)/(E − W))^.98.
    """
    total = recipe.epochs * steps_per_epoch
    epoch = step // steps_per_epoch
    if recipe.schedule == "cosine":
        warm = min(recipe.warmup_steps, total // 2)
        if step < warm:
            return recipe.lr * (step + 1) / warm
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    if recipe.schedule == "halve":
        drops = (epoch >= recipe.epochs / 2) + (epoch >= recipe.epochs - recipe.epochs / 6)
        return float(recipe.lr * 0.5**drops)
    warm_epochs = recipe.warmup_share * recipe.epochs
    if epoch < warm_epochs:
        return float(recipe.lr * min(1.0, (epoch + 1) / warm_epochs) ** 0.98)
    return float(recipe.lr * (1 - (epoch - warm_epochs) / (recipe.epochs - warm_epochs)) ** 0.98)


class MovingAverage:
    """An exponential moving average of parameters and batch-norm statistics; it starts as a copy.

    The decay rises as (1 + t) / (10 + t) first, so that the beginning is forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.net.state_dict().values(), net.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs.to(mine.dtype), 1 - decay)
            else:
                mine.copy_(theirs)


@torch.no_grad()
def clamp_slopes(net: nn.Module, limit: float) -> None:
    """Keep every PReLU slope within ± limit: the activation then never amplifies, and fp16 and int8 stay in range."""
    for module in net.modules():
        if isinstance(module, nn.PReLU):
            module.weight.clamp_(-limit, limit)
