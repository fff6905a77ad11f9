"""Checkpoints: everything a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import dataclasses
import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lightseg.errors import BadInput
from lightseg.files import atomic_path
from lightseg.train.recipe import Recipe
from lightseg.train.schedule import MovingAverage

NAME = "checkpoint.pt"
BEST = "best.pt"
ENCODER = "encoder"
"""The folder of stage one, in the run's own."""
DONE = "done.pt"
"""In there: what stage two starts from."""
MACHINE = {"workers", "compile", "cache", "checkpoint_steps"}
"""Recipe keys that may change between start and resume: they do not decide the result."""


@dataclasses.dataclass
class Position:
    """Where a run stands: the epoch, the next step in it, and what was measured so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    """Of the steps done in this epoch."""
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: float = -1.0


@dataclasses.dataclass
class State:
    """What changes during a run."""

    net: nn.Module
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    position: Position = dataclasses.field(default_factory=Position)

    @property
    def kept(self) -> nn.Module:
        """The network to evaluate and hand over."""
        return self.average.net if self.average else self.net


def save(path: Path, recipe: Recipe, state: State) -> None:
    """Write a checkpoint; a full disk or a kill leaves the previous one whole. Errors: `OutputError`."""
    average = state.average
    data = {
        "recipe": dataclasses.asdict(recipe),
        "position": dataclasses.asdict(state.position),
        "net": state.net.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "average": average.net.state_dict() if average else None,
        "average_updates": average.updates if average else 0,
        "random": torch.get_rng_state(),
    }
    write(path, data)


def write(path: Path, data: Any) -> None:
    """`torch.save` that reports a full disk as such: serialised in memory first, then written and renamed."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def started(out: Path) -> bool:
    """True where a run, or its first stage, has left something to go on from."""
    return any((out / name).is_file() for name in (NAME, f"{ENCODER}/{NAME}", f"{ENCODER}/{DONE}"))


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code. Errors: `BadInput` when it is missing or damaged."""
    if not path.is_file():
        raise BadInput(f"no checkpoint {path}; run without --resume to start afresh")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # the unpickler raises a dozen types on a damaged file
        raise BadInput(f"{path} is damaged ({type(error).__name__}); delete it and start without --resume") from error


def restore(path: Path, recipe: Recipe, state: State) -> None:
    """Put a checkpoint's content into ``state``. Errors: `BadInput` when it was made by another recipe."""
    data = read(path)
    then, now = data["recipe"], dataclasses.asdict(recipe)
    changed = sorted(k for k in now if k not in MACHINE and then.get(k) != now[k])
    if changed:
        raise BadInput(
            f"the checkpoint was made with other values of {', '.join(changed)}; resume with the recipe it was started "
            "with, or choose another --out DIR"
        )
    state.net.load_state_dict(data["net"])
    state.optimiser.load_state_dict(data["optimiser"])
    if state.average is not None:
        state.average.net.load_state_dict(data["average"])
        state.average.updates = data["average_updates"]
    torch.set_rng_state(data["random"])
    state.position = Position(**data["position"])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # for libraries that draw from the old generator
    torch.manual_seed(seed)
