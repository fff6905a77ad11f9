"""What importing costs and needs: nothing heavy for ``--help``, no extra for a module, and no side effects."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from lightseg.cli import EXTRA_OF
from tests.project.checkout import command_modules, configuration, sources
from tests.project.conftest import Python

HEAVY = {"torch", "numpy", "PIL", "rich", "safetensors", "onnx", "onnxruntime", "ai_edge_litert", "cv2", "yaml"}
IMPORT_NAMES = {
    "litert-torch": "litert_torch",
    "opencv-python-headless": "cv2",
    "pyyaml": "yaml",
    "tensorflow-cpu": "tensorflow",
}
"""Where a package is imported under another name than its own with underscores."""
NEEDED = {name: {"cv2", "yaml"} for name in ("lightseg.train", "lightseg.benchmarks.accuracy")}
"""What a package or module may need to be imported at all; nothing where it is not listed."""


def imported(body: list[ast.stmt]) -> set[str]:
    """Top-level names imported outside functions and outside ``if TYPE_CHECKING``."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif (isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)) or isinstance(node, ast.Try):
            found |= imported(node.body + node.orelse)
    return found


@pytest.mark.parametrize(("module", "path"), command_modules().items(), ids=command_modules())
def test_a_command_imports_only_the_standard_library(module: str, path: Path) -> None:
    names = imported(ast.parse(path.read_text(encoding="utf-8")).body)
    assert names - {"lightseg"} <= sys.stdlib_module_names


HELP = """
import importlib, json, sys
sys.argv[0] = "command"
try:
    importlib.import_module(sys.argv[1]).main(["--help"])
except SystemExit as end:
    assert end.code == 0, end.code
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("module", [name for name in command_modules() if name != "lightseg.cli"])
def test_help_waits_for_nothing_heavy(module: str, python: Python) -> None:
    *text, loaded = python(HELP, module).splitlines()
    assert not {name.split(".")[0] for name in json.loads(loaded)} & HEAVY
    assert "examples:" in text
    assert any("--json" in line for line in text)


IMPORT = """
import importlib, importlib.abc, json, logging, os, sys
modules, absent, needed = json.loads(sys.argv[1])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} stands for an extra that is not installed", name=name)

sys.meta_path.insert(0, Absent())
import torch
for package in needed:  # what they do to the process is theirs
    importlib.import_module(package)

def state():
    settings = torch.get_num_threads(), torch.is_grad_enabled(), torch.backends.mkldnn.enabled, torch.initial_seed()
    return dict(os.environ), list(logging.root.handlers), settings
before = state()
for module in modules:
    importlib.import_module(module)
assert state() == before, "importing changed the process"
"""


def extras(only: str | None = None) -> set[str]:
    """Import names of all packages that are optional, or of those of one extra."""
    sections = configuration()["options.extras_require"]
    lines = [line.strip() for name in sections if only in (None, name) for line in sections[name].split("\n")]
    names = [re.split(r"[\s\[=<>;!~]", line)[0] for line in lines if line and not line.startswith("%")]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


@pytest.mark.parametrize("stage", ["lightseg", *NEEDED])
def test_modules_import_without_extras(stage: str, python: Python) -> None:
    special = tuple(NEEDED)
    modules = [n for n, _ in sources() if n.startswith(stage) and (stage in NEEDED or not n.startswith(special))]
    needed = NEEDED.get(stage, set())
    absent = extras() - needed
    assert {"onnx", "onnxruntime", "ai_edge_litert", "tensorflow", "coremltools", "openvino", "ncnn"} <= absent
    python(IMPORT, json.dumps([modules, sorted(absent), sorted(needed)]))


WITHOUT = """
import importlib, sys
sys.stderr = sys.stdout
for package in sys.argv[2].split(","):
    sys.modules[package] = None
code = importlib.import_module(sys.argv[1]).main(sys.argv[3:])
assert code == 1, code
"""


@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("lightseg.train.cli", ["--recipe", "sinet_portrait", "--data", ".", "--check-data"]),
        ("lightseg.benchmarks.evaluate_cli", ["sinet", "--data", "."]),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    module: str, argv: list[str], python: Python, tmp_path: Path
) -> None:
    said = python(WITHOUT, module, ",".join(EXTRA_OF), *argv, cwd=tmp_path)
    assert "install it with: pip install 'lightseg[train]'" in said


def test_packages_and_extras_agree() -> None:
    assert all(package in extras(extra) for package, extra in EXTRA_OF.items())
