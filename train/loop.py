"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightseg.errors import LightsegError
from lightseg.train import checkpoint, losses
from lightseg.train.datasets import Order, Samples
from lightseg.train.recipe import Recipe
from lightseg.train.schedule import MovingAverage, clamp_slopes, learning_rate
from lightseg.train.schedule import optimiser as make_optimiser


def portrait_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """The weighted sum of losses a recipe asks for, as a function of logits and target."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        total = losses.cross_entropy(logits, target, ignore=recipe.ignore)
        if recipe.edge_weight:
            band = losses.edge_target(target, recipe.edge_width, recipe.ignore)
            total = total + recipe.edge_weight * losses.cross_entropy(logits, band, ignore=recipe.ignore)
        if recipe.iou_weight:
            total = total + recipe.iou_weight * losses.soft_iou(logits, target, recipe.ignore)
        return total

    return loss


@dataclass
class Clock:
    """Seconds spent per part of a step."""

    spent: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def mark(self, part: str) -> None:
        now = time.perf_counter()
        self.spent[part] = self.spent.get(part, 0.0) + now - self.last
        self.last = now


class Diverged(LightsegError):
    """The loss became NaN or infinite."""


def train(
    recipe: Recipe,
    net: nn.Module,
    samples: Samples,
    out: Path,
    validate: Callable[[nn.Module], dict[str, float]],
    report: Callable[[dict[str, float]], None],
    facts: dict[str, Any],
    resume: bool = False,
) -> nn.Module:
    """Train ``net`` in place as ``recipe`` says; return the network to keep (the moving average where there is one)."""
    if recipe.channels_last:
        net.to(memory_format=torch.channels_last)
    optimiser = make_optimiser(net, recipe)
    average = MovingAverage(net, recipe.ema) if recipe.ema else None
    position = checkpoint.Position()
    if resume:
        position = checkpoint.restore(checkpoint.load(out / checkpoint.NAME), recipe, net, optimiser, average)
    order = Order(len(samples), recipe.batch, recipe.seed)
    loader = DataLoader(samples, batch_sampler=order, num_workers=recipe.workers)
    loss_of = portrait_loss(recipe)
    step_net: Callable[[Tensor], Tensor] = torch.compile(net) if recipe.compile else net
    for epoch in range(position.epoch, recipe.epochs):
        net.train()
        order.epoch, order.start = epoch, position.step
        clock, losses_seen = Clock(), []
        for x, y in loader:
            clock.mark("data")
            rate = learning_rate(recipe, epoch * len(order) + position.step, len(order))
            for group in optimiser.param_groups:
                group["lr"] = rate
            if recipe.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.amp):
                logits = step_net(x)
            loss = loss_of(logits.float(), y)
            clock.mark("forward")
            if not torch.isfinite(loss):
                raise Diverged(f"loss is {float(loss)} in epoch {epoch}, step {position.step}; try lr={recipe.lr / 2}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            clock.mark("backward")
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimiser.step()
            if recipe.max_slope:
                clamp_slopes(net, recipe.max_slope)
            if average:
                average.update(net)
            position.step += 1
            losses_seen.append(float(loss.detach()))
            clock.mark("optimiser")
        position.epoch, position.step = epoch + 1, 0
        kept = average.net if average else net
        row = {"epoch": epoch + 1.0, "lr": rate, "loss": sum(losses_seen) / len(losses_seen)}
        row |= {f"seconds_{k}": v for k, v in clock.spent.items()} | validate(kept)
        position.history.append(row)
        checkpoint.save(out / checkpoint.NAME, recipe, position, net, optimiser, average, facts)
        report(row)
    return average.net if average else net
