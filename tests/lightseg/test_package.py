"""The package as a whole: what importing loads, what the wheel holds, who imports whom."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("export", "train", "benchmarks")
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "ai_edge_litert", "tensorflow", "coremltools", "tensorrt",
         "litert_torch", "cv2", "rich", "yaml", "numpy", "PIL")  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("lightseg", ()),
        ("lightseg.cli", ()),
        ("lightseg.errors", ()),
        ("lightseg.spec", ()),
        ("lightseg.files", ()),
        ("lightseg.download", ()),
        ("lightseg.images", ("numpy", "PIL")),
        ("lightseg.predict", ("numpy", "PIL")),
        ("lightseg.export", ()),
        ("lightseg.train", ()),
        ("lightseg.benchmarks", ()),
        ("lightseg.zoo", ("torch", "numpy")),
    ],
)
def test_importing_loads_nothing_heavy(module: str, allowed: tuple[str, ...]) -> None:
    assert loaded_by(f"import {module}") & set(HEAVY) <= set(allowed)


def test_models_are_loaded_on_demand() -> None:
    assert "torch" in loaded_by("import lightseg; lightseg.MODELS")
    import lightseg

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lightseg.nothing  # noqa: B018


def package_folders() -> set[str]:
    """Dotted names of all folders that hold Python files, through the mapping of the stages."""
    roots = {"lightseg": ROOT / "lightseg"} | {f"lightseg.{s}": ROOT / s for s in STAGES}
    found = set()
    for name, root in roots.items():
        folders = [root, *(p for p in root.rglob("*") if p.is_dir() and not p.is_symlink())]
        for folder in folders:
            if any(folder.glob("*.py")):
                found.add(".".join((name, *folder.relative_to(root).parts)))
    return found


def test_packages_in_the_wheel_are_the_folders_on_disk() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = config["options"]["packages"].split()
    assert sorted(declared) == sorted(package_folders())
    mapping = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert mapping == {"lightseg": "lightseg"} | {f"lightseg.{s}": s for s in STAGES}


def test_package_data_exists() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    patterns = config["options.package_data"]["lightseg"].split()
    assert "samples/*" in patterns and "py.typed" in patterns
    assert {p.name for p in (ROOT / "lightseg" / "samples").iterdir()} == {"astronaut.jpg", "README.md"}
    assert (ROOT / "lightseg" / "py.typed").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkout_looks_like_the_installed_package(stage: str) -> None:
    link = ROOT / "lightseg" / stage
    assert link.is_symlink() and link.readlink() == Path("..") / stage
    assert link.resolve() == ROOT / stage


def test_imports_go_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
