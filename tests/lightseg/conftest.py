"""Fixtures for the tests of the core."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

from lightseg.zoo import SegmentationModel, create_model

GOLDENS = {
    "sinet": "portrait_sinet",
    "extremec3net": "portrait_extremec3net",
    "c3net": "cityscapes_c3net",
    "c3netv2": "cityscapes_c3netv2",
    "sinet_cityscapes": "cityscapes_sinet",
}


@lru_cache
def _clova(name: str) -> SegmentationModel:
    return create_model(f"{name}.clova")


@pytest.fixture
def clova(released: Path) -> Callable[[str], SegmentationModel]:
    """Models with the authors' weights, by name; shared between tests, so leave them as they are."""
    return _clova


@pytest.fixture
def goldens(shared: Path) -> Callable[[str], Path]:
    """The file of a model's golden inputs and logits."""
    return lambda name: shared / "goldens" / f"{GOLDENS[name]}.npz"
