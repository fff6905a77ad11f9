"""Checkpoints: everything a run needs to go on as if it had never stopped, written atomically."""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass
class Position:
    """Where a run stands: the next epoch and the next step in it, and what was measured so far."""

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: float = -1.0


def save(
    path: Path,
    recipe: Recipe,
    position: Position,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
    facts: dict[str, Any],
) -> None:
    """Write a checkpoint; a full disk or a kill leaves the previous one whole. Errors: `OutputError`."""
    state = {
        "recipe": dataclasses.asdict(recipe),
        "position": dataclasses.asdict(position),
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.net.state_dict() if average else None,
        "average_updates": average.updates if average else 0,
        "facts": facts,
        "torch_rng": torch.get_rng_state(),
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without unpickling code. Errors: `BadInput` when it is missing or damaged."""
    if not path.is_file():
        raise BadInput(f"no checkpoint {path}; run without --resume to start afresh")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises a dozen types on a damaged file
        raise BadInput(f"{path} is damaged ({type(error).__name__}); delete it and start without --resume") from error
    return dict(state)


def restore(
    state: dict[str, Any],
    recipe: Recipe,
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
) -> Position:
    """Put a checkpoint's state back. Errors: `BadInput` when it was made by another recipe."""
    then, now = state["recipe"], dataclasses.asdict(recipe)
    changed = sorted(k for k in now if k not in MACHINE and then.get(k) != now[k])
    if changed:
        raise BadInput(
            f"the checkpoint was made with other values of {', '.join(changed)}; resume with the recipe it was started "
            "with, or choose another --out DIR"
        )
    net.load_state_dict(state["net"])
    optimiser.load_state_dict(state["optimiser"])
    if average is not None:
        average.net.load_state_dict(state["average"])
        average.updates = state["average_updates"]
    torch.set_rng_state(state["torch_rng"])
    return Position(**state["position"])


MACHINE = {"workers", "compile", "cache"}
"""Keys that may change between start and resume: they do not decide the result."""


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that use the old generator
    torch.manual_seed(seed)
