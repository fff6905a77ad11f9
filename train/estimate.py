"""What a whole schedule would cost on this machine, from a few real steps of each of its parts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from lightseg.train import gpu, losses
from lightseg.train.datasets import Key, Order, Samples
from lightseg.train.heads import Coarse, WithAuxiliary
from lightseg.train.loop import Clock, batches, fresh, prepared, step
from lightseg.train.recipe import Recipe
from lightseg.train.run import Job, flush_denormals, start
from lightseg.train.teacher import Teacher
from lightseg.train.world import World

PIXELS = 1 << 20
"""Of a timed step on a CPU, at least one image: a full batch of street scenes may not fit, and would take minutes."""
PARTS = ("data", "forward", "backward", "optimiser")


@dataclass(frozen=True)
class Part:
    """One stage of a recipe at one of its image sizes; what was measured, and how much of it the schedule holds."""

    stage: str
    height: int
    width: int
    batch: int
    """Of the timed steps, not the recipe's."""
    steps: int
    """Timed, after one that is not."""
    cpu_time: bool
    """Measured in seconds of this process's CPU time, as a core without other work would give it; else on the wall."""
    images_per_second: float
    shares: dict[str, float]
    """Of the time: data, forward, backward, optimiser."""
    images: int
    """In the whole schedule."""
    macs: int
    """Counted, of one image forward; with the backward pass three times as many."""
    outputs: int
    """Values convolutions write for one image forward, counted."""

    @property
    def hours(self) -> float:
        return self.images / self.images_per_second / 3600

    @property
    def gpu_hours(self) -> tuple[float, float]:
        """Predicted for one RTX 3090, see `lightseg.train.gpu`: (at best, at worst)."""
        return gpu.hours(self.images, self.outputs)

    def to_dict(self) -> dict[str, Any]:
        best, worst = self.gpu_hours
        return asdict(self) | {"hours": self.hours, "predicted_rtx3090_hours": [best, worst]}


def estimate(job: Job, count: int | None = None, seconds: float = 30.0) -> Iterator[Part]:
    """Every part of the recipe's schedule, timed for its share of ``seconds`` and for one step at least.

    ``count`` is the number of training pairs to reckon with, where the data at hand are only a sample. Validations
    are not counted, and nothing is written. Errors: `BadInput` for data that do not fit.
    """
    job = replace(job, recipe=replace(job.recipe, normalise="weights", workers=workers(job.recipe)))
    pairs, _ = job.pairs()
    model, preprocess = start(job, pairs)
    weight = torch.ones(model.spec.channels, device=job.world.device) if job.recipe.class_weights else None
    each = seconds / ((1 + bool(job.recipe.encoder_epochs)) * len(job.recipe.scales) + bool(job.recipe.teachers))
    if job.recipe.teachers:
        yield asked(job, Samples(pairs[:16], job.recipe, preprocess), count or len(pairs), each)
    for name, net, recipe, edge in stages(job.recipe, model.net):
        loss = losses.of_recipe(recipe, edge, weight)
        images = (count or len(pairs)) // recipe.batch * recipe.batch * recipe.epochs
        for scale in recipe.scales:
            small = replace(recipe, scales=(scale,), settle=0.0)
            small = replace(small, batch=batch_of(small, scale, job.world, len(pairs)))
            samples = Samples(pairs[: max(small.batch, 16)], small, preprocess, model.spec.multiple)
            height, width = samples.sizes[0]
            counted = gpu.work(net, height, width)
            with flush_denormals():
                clock = rehearse(small, net, samples, loss, job.world, each)
            row = clock.shares(small.batch)
            shares = {part: row.get(f"share_{part}", 0.0) for part in PARTS}
            rate = row["images_per_second"]
            measured = (small.batch, clock.steps, clock.read is time.process_time, rate, shares)
            yield Part(name, height, width, *measured, images, counted.macs, counted.outputs)


def workers(recipe: Recipe) -> int:
    """The recipe's loader workers, as far as there are cores for them beside the one that trains."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(recipe.workers, cores - 1)


def timer(recipe: Recipe, world: World) -> Callable[[], float]:
    """CPU time where one thread does everything, so that other work on the machine does not count; else the clock."""
    alone = world.device.type == "cpu" and torch.get_num_threads() == 1 and not recipe.workers
    return time.process_time if alone else time.perf_counter


def batch_of(recipe: Recipe, scale: float, world: World, pairs: int) -> int:
    """Images in a timed step: the recipe's batch, on a CPU no more than `PIXELS` hold."""
    wanted = min(recipe.batch, pairs)
    if world.device.type == "cuda":
        return wanted
    return max(1, min(wanted, int(PIXELS / (recipe.height * recipe.width * scale**2))))


def asked(job: Job, samples: Samples, count: int, seconds: float) -> Part:
    """The teachers' answers for ``count`` images, from those for ``samples``; the first image is not counted.

    Teachers in ``.tflite`` files are timed too; for a GPU they are not counted, since they stay on the processor.
    """
    teacher = Teacher(job.recipe, job.world.device)
    teacher(samples.raw(0)[0])
    read = timer(job.recipe, job.world)
    start, end, done = read(), time.perf_counter() + seconds, 0
    while not done or time.perf_counter() < end:
        teacher(samples.raw(done % len(samples))[0])
        done += 1
    rate = done / (read() - start)
    work = [gpu.work(net, *size) for net, _, its_sizes in teacher.networks for size in its_sizes]
    macs, outputs = (2 * sum(getattr(w, name) for w in work) for name in ("macs", "outputs"))
    shares = dict.fromkeys(PARTS, 0.0) | {"forward": 1.0}
    measured = (1, done, read is time.process_time, rate, shares)
    return Part("teachers", job.recipe.height, job.recipe.width, *measured, count, macs, outputs)


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
    state = fresh(net.train(), recipe, world)
    called = prepared(net, recipe, world)
    read = timer(recipe, world)
    clock, end = Clock(read), float("inf")
    for x, y in batches(samples, Endless(len(samples), recipe.batch, recipe.seed), recipe, world):
        clock.mark("data")
        step(x, y, called, loss, state, recipe, 0.0, world, clock)
        if end == float("inf"):
            clock, end = Clock(read), time.perf_counter() + seconds
        elif time.perf_counter() >= end:
            break
    return clock


class Endless(Order):
    """Epoch after epoch in one go: a few images stand for many, and loader workers are started but once."""

    def __iter__(self) -> Iterator[list[Key]]:
        while True:
            yield from super().__iter__()
            self.epoch += 1
