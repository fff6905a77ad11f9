"""The training loop: read `train` from top to bottom."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from lightseg.errors import LightsegError, Unsupported
from lightseg.train import checkpoint
from lightseg.train.checkpoint import Position, State
from lightseg.train.datasets import Order, Samples
from lightseg.train.logs import Log, Row
from lightseg.train.losses import Loss
from lightseg.train.recipe import Recipe
from lightseg.train.schedule import MovingAverage, clamp_slopes, learning_rate, optimiser
from lightseg.train.world import World


class Diverged(LightsegError):
    """The loss became NaN or infinite; the last checkpoint is from before."""


class Stopped(LightsegError):
    """The run was asked to stop and has saved where it stands."""


def train(
    recipe: Recipe,
    net: nn.Module,
    samples: Samples,
    loss_of: Loss,
    out: Path,
    validate: Callable[[nn.Module, int], Row],
    log: Log,
    world: World,
    resume: bool = False,
) -> nn.Module:
    """Train ``net`` as ``recipe`` says and return the network to keep: last or best, averaged where asked for.

    Errors: `Diverged`, `Stopped`, `OutputError` when a checkpoint cannot be written (the previous one stays).
    """
    state = fresh(net, recipe, world)
    if resume:
        checkpoint.restore(out / checkpoint.NAME, recipe, state)
    at = state.position
    order = Order(len(samples), recipe.batch, recipe.seed, len(samples.sizes), world.rank, world.size)
    called = prepared(net, recipe, world)
    with stop_signal() as stopping:
        for epoch in range(at.epoch, recipe.epochs):
            net.train()
            order.epoch, order.start = epoch, at.step
            clock = Clock()
            for x, y in batches(samples, order, recipe, world):
                clock.mark("data")
                done = epoch * len(order) + at.step
                rate = learning_rate(recipe, done, len(order))
                loss = step(x, y, called, loss_of, state, recipe, rate, world, clock)
                at.step += 1
                at.loss_sum += loss
                log.step(done + 1, recipe.epochs * len(order), loss)
                if world.any(stopping()):
                    save(out, recipe, state, world)
                    at_which = f"epoch {epoch + 1}, step {at.step}"
                    raise Stopped(f"stopped in {at_which}, and saved; the same command with --resume goes on")
                if recipe.checkpoint_steps and at.step % recipe.checkpoint_steps == 0 and at.step < len(order):
                    save(out, recipe, state, world)
            row = row_of(recipe, at, len(order)) | clock.shares(recipe.batch)
            if world.first and ((epoch + 1) % recipe.validate_every == 0 or epoch + 1 == recipe.epochs):
                row |= validate(state.kept, epoch + 1)
                keep_best(out, row["score"], state)
            at.epoch, at.step, at.loss_sum = epoch + 1, 0, 0.0
            at.history.append(row)
            save(out, recipe, state, world)
            log.epoch(at.history)
    world.wait()  # the others are here while the first still validates
    if recipe.keep == "best" and world.first:
        state.kept.load_state_dict(checkpoint.read(out / checkpoint.BEST)["net"])
    return state.kept


def fresh(net: nn.Module, recipe: Recipe, world: World) -> State:
    """The state before the first step, with ``net`` on this process's device and in the recipe's memory format."""
    net.to(world.device)
    if recipe.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return State(net, optimiser(net, recipe), MovingAverage(net, recipe.ema) if recipe.ema else None)


def step(
    x: Tensor,
    y: Tensor,
    called: Callable[[Tensor], Any],
    loss_of: Loss,
    state: State,
    recipe: Recipe,
    rate: float,
    world: World,
    clock: Clock,
) -> float:
    """One batch, forward and back, at the learning rate ``rate``; return its loss. Errors: `Diverged`."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.amp):
        output = called(x)
    loss = loss_of(output, y)
    clock.mark("forward")
    if world.any(not bool(torch.isfinite(loss))):
        raise Diverged(_advice(loss, state.position, recipe))
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    clock.mark("backward")
    if recipe.clip:
        nn.utils.clip_grad_norm_(state.net.parameters(), recipe.clip)
    state.optimiser.step()
    if recipe.max_slope:
        clamp_slopes(state.net, recipe.max_slope)
    if state.average:
        state.average.update(state.net)
    clock.mark("optimiser")
    return float(loss.detach())


def prepared(net: nn.Module, recipe: Recipe, world: World) -> Callable[[Tensor], Any]:
    """``net`` as the loop calls it: compiled, and with gradients averaged over the processes, where asked for."""
    called: nn.Module = net
    if world.size > 1:
        ids = [world.device.index] if world.device.type == "cuda" else None
        called = DistributedDataParallel(net, ids, find_unused_parameters=recipe.encoder_epochs > 0)
    return compiled(called) if recipe.compile else called


def compiled(net: nn.Module) -> Callable[[Tensor], Any]:
    """``net`` by ``torch.compile``, once for every image size: of one graph for all sizes it makes an error of its own.

    Errors: `Unsupported` at the first call where it cannot be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException

    called = torch.compile(net, dynamic=False)

    def call(x: Tensor) -> Any:
        try:
            return called(x)
        except TorchDynamoException as error:
            reason = str(error).partition("\n")[0]
            raise Unsupported(f"PyTorch cannot compile the network here ({reason}); pass compile=false") from error

    return call


def batches(samples: Samples, order: Order, recipe: Recipe, world: World) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of the rest of an epoch, on its device."""
    pin = world.device.type == "cuda"
    if recipe.workers:
        cv2.setNumThreads(0)  # OpenCV's thread pool does not survive the fork: a worker would wait for it for ever
    context = "fork" if recipe.workers else None  # the decoded images are shared, not copied
    loader = DataLoader(
        samples, batch_sampler=order, num_workers=recipe.workers, pin_memory=pin, multiprocessing_context=context
    )
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    for x, y in loader:
        yield x.to(world.device, memory_format=layout, non_blocking=pin), y.to(world.device, non_blocking=pin)


def row_of(recipe: Recipe, at: Position, steps: int) -> Row:
    """What the log says of an epoch of ``steps`` steps: its number from 1, the last step's rate, the mean loss."""
    rate = learning_rate(recipe, (at.epoch + 1) * steps - 1, steps)
    return {"epoch": at.epoch + 1, "lr": rate, "loss": at.loss_sum / at.step}


def save(out: Path, recipe: Recipe, state: State, world: World) -> None:
    if world.first:
        checkpoint.save(out / checkpoint.NAME, recipe, state)


def keep_best(out: Path, score: float, state: State) -> None:
    if score > state.position.best:
        state.position.best = score
        checkpoint.write(out / checkpoint.BEST, {"net": state.kept.state_dict()})


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGTERM came, so that the loop can save first and end after the step."""
    asked = False

    def remember(number: int, frame: object) -> None:
        nonlocal asked
        asked = True

    try:
        before = signal.signal(signal.SIGTERM, remember)
    except ValueError:  # not in the main thread: nobody sends it signals
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass
class Clock:
    """Seconds spent in each part of a step; on a GPU the part that needs a result waits for those before it."""

    read: Callable[[], float] = time.perf_counter
    spent: dict[str, float] = field(default_factory=dict)
    last: float = field(init=False)
    steps: int = 0

    def __post_init__(self) -> None:
        self.last = self.read()

    def mark(self, part: str) -> None:
        now = self.read()
        self.spent[part] = self.spent.get(part, 0.0) + now - self.last
        self.last = now
        self.steps += part == "optimiser"

    def shares(self, batch: int) -> Row:
        total = sum(self.spent.values())
        if not self.steps:  # resumed behind the last step of an epoch
            return {}
        return {"images_per_second": self.steps * batch / total} | {
            f"share_{part}": seconds / total for part, seconds in self.spent.items()
        }


def _advice(loss: Tensor, at: Position, recipe: Recipe) -> str:
    said = f"the loss is {float(loss.detach())} in epoch {at.epoch + 1}, step {at.step + 1}; "
    return f"{said}try lr={recipe.lr / 2:g} clip=1 in another --out DIR; a checkpoint from before is kept as it was"
