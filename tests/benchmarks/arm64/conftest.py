"""An emulated computer that is ready, and an emulator that says what a test wants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightseg.benchmarks.arm64 import root as roots
from lightseg.benchmarks.arm64.root import Root

READY = {"format": roots.FORMAT, "python": "3.11", "packages": {"onnxruntime": "1.31.1"}}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "ready.json").write_text(json.dumps(READY))
    return Root(tmp_path)


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An emulator on the path that says what a test wants."""
    said = {"--version": "qemu-aarch64 version 7.2.22 (Debian 1:7.2)", "-help": "-L path\n-plugin [file=]<file>"}
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(roots, "_said", said.__getitem__)
    return said
