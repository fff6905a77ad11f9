"""JavaScript under node, and a stand-in for Chromium that does what the page would, without a browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.browser.child import Place
from lightseg.benchmarks.browser.runtimes import packages
from lightseg.benchmarks.browser.site import PAGE

HERE = Path(__file__).parent
ModuleCall = Callable[..., Any]


@pytest.fixture(scope="session")
def javascript() -> ModuleCall:
    """``javascript("pixels.mjs", "resize", …)`` calls the page's own code; skips where there is no node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the path; install it to test the page's JavaScript")

    environment = {**os.environ, "LIGHTSEG_PAGE": PAGE.as_uri()}

    def call(module: str, name: str, *arguments: Any) -> Any:
        where = (PAGE if module != "cases.mjs" else HERE) / module
        request = json.dumps({"module": where.as_uri(), "call": name, "arguments": arguments}, default=_encode)
        command = [node, str(HERE / "driver.mjs")]
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, check=False, timeout=60, env=environment
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout, object_hook=_decode)

    return call


def _encode(value: Any) -> Any:
    array = np.ascontiguousarray(value)
    return {"dtype": str(array.dtype), "base64": base64.b64encode(array.tobytes()).decode()}


def _decode(value: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"]) if "base64" in value else value


@pytest.fixture(scope="session")
def runtimes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if the packages had been fetched."""
    folder = tmp_path_factory.mktemp("runtimes")
    for package in packages():
        (folder / package.folder_name).mkdir()
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory, runtimes_folder: Path) -> Callable[[str], Place]:
    """A program that Chromium's place is taken by, behaving as named: see stand_in.py."""

    def make(behaviour: str = "honest") -> Place:
        program = tmp_path_factory.mktemp("bin") / f"chromium-{behaviour}"
        line = f"import sys; sys.argv.append({behaviour!r}); exec(open({str(HERE / 'stand_in.py')!r}).read())"
        program.write_text(f"#!{sys.executable}\n{line}\n")
        program.chmod(0o755)
        return Place(program, runtimes_folder, start_seconds=120, answer_seconds=120)

    return make
