"""Parameters for tests over models and targets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS


def pairs(slow: Collection[str] = (), models: Iterable[str] = MODELS) -> list[Any]:
    """(model, target) of all models and targets; the targets in ``slow`` only in the slow run."""
    return [
        pytest.param(name, target, marks=[pytest.mark.slow] * (target in slow)) for name in models for target in TARGETS
    ]


def targets(slow: Collection[str] = ()) -> list[Any]:
    return [pytest.param(target, marks=[pytest.mark.slow] * (target in slow)) for target in TARGETS]
