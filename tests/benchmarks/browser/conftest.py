"""JavaScript under node, and a stand-in for Chromium that does what the page would, without a browser."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.browser.child import PAGE, Place
from lightseg.benchmarks.browser.runtimes import packages

HERE = Path(__file__).parent
ModuleCall = Callable[..., Any]


@pytest.fixture(scope="session")
def javascript() -> ModuleCall:
    """``javascript("pixels.mjs", "resize", …)`` calls the page's own code; skips where there is no node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the path; install it to test the page's JavaScript")

    def call(module: str, name: str, *arguments: Any) -> Any:
        where = (PAGE if module != "cases.mjs" else HERE) / module
        request = json.dumps({"module": where.as_uri(), "call": name, "arguments": arguments}, default=_encode)
        done = subprocess.run(
            [node, str(HERE / "driver.mjs")], input=request, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout, object_hook=_decode)

    return call


def _encode(value: Any) -> Any:
    array = np.ascontiguousarray(value)
    return {"dtype": str(array.dtype), "base64": base64.b64encode(array.tobytes()).decode()}


def _decode(value: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"]) if "base64" in value else value


@pytest.fixture
def runtimes_folder(tmp_path: Path) -> Path:
    """As if the packages had been fetched."""
    for package in packages():
        (tmp_path / "runtimes" / package.folder_name).mkdir(parents=True)
    return tmp_path / "runtimes"


@pytest.fixture
def stand_in(tmp_path: Path, runtimes_folder: Path) -> Callable[[str], Place]:
    """A program that Chromium's place is taken by, behaving as named: see stand_in.py."""

    def make(behaviour: str = "honest") -> Place:
        program = tmp_path / f"chromium-{behaviour}"
        line = f"import sys; sys.argv.append({behaviour!r}); exec(open({str(HERE / 'stand_in.py')!r}).read())"
        program.write_text(f"#!{sys.executable}\n{line}\n")
        program.chmod(0o755)
        return Place(program, runtimes_folder, start_seconds=20, answer_seconds=20)

    return make
