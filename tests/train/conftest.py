"""A tiny data set and a recipe that is done in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightseg.train.generate import write
from lightseg.train.recipe import Recipe, build


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen generated portraits and eight streets to train on, four of each to validate on."""
    folder = tmp_path_factory.mktemp("demo")
    for kind, count in (("portrait", 16), ("street", 8)):
        write(kind, folder / f"{kind}_train", count, seed=0)
        write(kind, folder / f"{kind}_val", 4, seed=1)
    return folder


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """A recipe for 64×64 portraits in batches of four; keyword arguments change it."""

    def make(**changes: Any) -> Recipe:
        base: dict[str, Any] = {"model": "sinet", "height": 64, "width": 64, "epochs": 2, "batch": 4, "warmup_steps": 2}
        return build(base | {"ema": 0.9, "clip": 1.0, "max_slope": 1.0} | changes)

    return make
