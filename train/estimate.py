"""What a whole schedule would cost on this machine, from a few real steps of each of its parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from lightseg.train import losses
from lightseg.train.checkpoint import State
from lightseg.train.datasets import Order, Samples
from lightseg.train.heads import Coarse, WithAuxiliary
from lightseg.train.loop import Clock, batches, prepared, step
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job, start
from lightseg.train.schedule import MovingAverage, optimiser
from lightseg.train.teacher import Teacher
from lightseg.train.world import World

SMALL = 4
"""Images in a timed step: a full batch of street scenes may not fit here, and images/s hardly depend on it."""
STEPS = 3
"""Timed steps at least, after one that is not timed."""


@dataclass(frozen=True)
class Part:
    """One stage of a recipe at one of its image sizes; what was measured, and how much of it the schedule holds."""

    stage: str
    height: int
    width: int
    batch: int
    """Of the timed steps, not the recipe's."""
    images_per_second: float
    shares: dict[str, float]
    """Of the time: data, forward, backward, optimiser."""
    images: int
    """In the whole schedule."""

    @property
    def hours(self) -> float:
        return self.images / self.images_per_second / 3600

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"hours": self.hours}


def estimate(job: Job, count: int | None = None, seconds: float = 10.0) -> Iterator[Part]:
    """Every part of the recipe's schedule, each timed for at least ``seconds``; nothing is written.

    ``count`` is the number of training pairs to reckon with, where the data at hand are only a sample. Validations
    are not counted. Errors: `BadInput` for data that do not fit.
    """
    pairs, _ = job.pairs()
    model, preprocess = start(job, pairs)
    weight = torch.ones(model.spec.channels, device=job.world.device) if job.recipe.class_weights else None
    if job.recipe.teachers:
        yield asked(job, Samples(pairs[:SMALL], job.recipe, preprocess), count or len(pairs), seconds)
    for name, net, recipe, edge in stages(job.recipe, model.net):
        loss = losses.of_recipe(recipe, edge, weight)
        for scale in recipe.scales:
            small = replace(recipe, scales=(scale,), batch=min(recipe.batch, SMALL, len(pairs)), settle=0.0)
            few = pairs[: max(small.batch, 16)]
            samples = Samples(few, small, preprocess, model.spec.multiple)
            clock = rehearse(small, net, samples, loss, job.world, seconds)
            row = clock.shares(small.batch)
            shares = {k.removeprefix("share_"): v for k, v in row.items() if k.startswith("share_")}
            images = (count or len(pairs)) // recipe.batch * recipe.batch * recipe.epochs
            yield Part(name, *samples.sizes[0], small.batch, row["images_per_second"], shares, images)


def asked(job: Job, samples: Samples, count: int, seconds: float) -> Part:
    """The teachers' answers for ``count`` images, from those for ``samples``; the first image is not counted."""
    teacher = Teacher(job.recipe, job.world.device)
    teacher(samples.raw(0)[0])
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        teacher(samples.raw(done % len(samples))[0])
        done += 1
    rate = done / (time.perf_counter() - start)
    return Part("teachers", job.recipe.height, job.recipe.width, 1, rate, {"forward": 1.0}, count)


def stages(recipe: Recipe, net: nn.Module) -> Iterator[tuple[str, nn.Module, Recipe, int]]:
    """(name, what is trained, under which recipe, edge width) of each stage, in the order of `lightseg.train.run`."""
    if recipe.encoder_epochs:
        first = replace(recipe, epochs=recipe.encoder_epochs, batch=recipe.encoder_batch or recipe.batch)
        yield "encoder", Coarse(net), first, recipe.encoder_edge_width
    yield "network", WithAuxiliary(net) if recipe.aux_weight else net, recipe, recipe.edge_width


def rehearse(
    recipe: Recipe, net: nn.Module, samples: Samples, loss: losses.Loss, world: World, seconds: float
) -> Clock:
    """Real steps of the loop, at a learning rate of 0, for ``seconds``; the first is not counted: it compiles."""
    net.to(world.device).train()
    if recipe.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = State(net, optimiser(net, recipe), MovingAverage(net, recipe.ema) if recipe.ema else None)
    called = prepared(net, recipe, world)
    order = Order(len(samples), recipe.batch, recipe.seed)
    clock, end = Clock(), float("inf")
    while clock.steps < STEPS or time.perf_counter() < end:
        for x, y in batches(samples, order, recipe, world):
            clock.mark("data")
            step(x, y, called, loss, state, recipe, 0.0, world, clock)
            if end == float("inf"):
                clock, end = Clock(), time.perf_counter() + seconds
            elif clock.steps >= STEPS and time.perf_counter() >= end:
                break
        order.epoch += 1
    return clock
