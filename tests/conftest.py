"""Fixtures every stage shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _shared() -> Path:
    return Path(os.environ.get("LIGHTSEG_SHARED") or ROOT.parent / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the released weights, golden logits and real images; it is not part of the repository."""
    folder = _shared()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with released weights and data; set LIGHTSEG_SHARED to where it is")
    return folder


@pytest.fixture
def released(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authors' weights, found the way a user would have them found."""
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(shared / "weights"))
    return shared / "weights"


@pytest.fixture(autouse=True, scope="session")
def no_own_weights() -> Iterator[None]:
    """A folder set for the person who runs the tests would hide what a test forgot to ask for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LIGHTSEG_WEIGHTS", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tests are small and share the machine: more threads only fight each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
