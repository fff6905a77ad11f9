"""Fixtures of the tests of the project itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project.checkout import ROOT

Python = Callable[..., str]


@pytest.fixture
def python() -> Python:
    """Run a piece of code in a fresh interpreter and return what it printed; it must exit with 0."""

    def run(code: str, *args: str, cwd: Path = ROOT, **environment: str) -> str:
        command = [sys.executable, "-c", code, *args]
        done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
