"""The wheel holds what the checkout holds: packages, links, data."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from tests.project.checkout import ROOT, STAGES, configuration, packages, scripts, sources
from tests.project.conftest import Python


def test_setup_cfg_lists_every_package() -> None:
    listed = configuration()["options"]["packages"].split()
    assert sorted(listed) == sorted(packages())


def test_every_folder_with_code_is_a_package() -> None:
    assert {path.parent for _, path in sources()} == set(packages().values())


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_linked_into_the_package(stage: str) -> None:
    link = ROOT / "lightseg" / stage
    assert link.is_symlink(), f"{link} must be a link; clone with: git clone -c core.symlinks=true"
    assert link.readlink() == Path("..") / stage


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_mapped_for_the_wheel(stage: str) -> None:
    mapping = dict(line.split(" = ") for line in configuration()["options"]["package_dir"].strip().splitlines())
    assert mapping[f"lightseg.{stage}"] == stage


@pytest.mark.parametrize("script", scripts())
def test_console_script_names_a_function(script: str) -> None:
    module, _, function = scripts()[script].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from a copy of the sources, so that building leaves nothing in the checkout."""
    scratch = tmp_path_factory.mktemp("wheel")
    for name in ("lightseg", *STAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        source, target = ROOT / name, scratch / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(scratch), "."]
    subprocess.run(command, cwd=scratch / "source", check=True, timeout=300)
    return next(scratch.glob("*.whl"))


BROWSER = "benchmarks/browser/page"


@pytest.mark.slow
def test_wheel_holds_every_module_and_its_data(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folders = {folder: name.replace(".", "/") for name, folder in packages().items()}
    modules = {f"{folders[path.parent]}/{path.name}" for _, path in sources()}
    data = [*(ROOT / "lightseg" / "samples").glob("*"), *(ROOT / "lightseg" / "pretrained").glob("*")]
    recipes = {f"lightseg/train/recipes/{path.name}" for path in (ROOT / "train" / "recipes").glob("*.yaml")}
    parts = {f"lightseg/benchmarks/{part}" for part in ("arm64/plugin.c", "page/report.html.j2")}
    parts |= {f"lightseg/benchmarks/browser/page/{path.name}" for path in (ROOT / BROWSER).iterdir()}
    assert held == modules | recipes | parts | {str(path.relative_to(ROOT)) for path in data} | {"lightseg/py.typed"}
    assert "lightseg/samples/astronaut.jpg" in held
    assert recipes


@pytest.mark.slow
def test_wheel_carries_both_licence_files(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel).namelist()
    assert all(any(name.endswith(f"licenses/{file}") for name in held) for file in ("LICENSE", "NOTICE"))


USE = """
import sys, lightseg.zoo, lightseg.export.pipeline, lightseg.benchmarks.cli
from lightseg.images import sample_photo
ours = [module.__file__ for name, module in sys.modules.items() if name.startswith("lightseg")]
assert all(file.startswith(sys.argv[1]) for file in ours), ours
assert sample_photo().is_file()
lightseg.zoo.create_model("sinet", "random")
"""


@pytest.mark.slow
def test_the_unpacked_wheel_works(wheel: Path, tmp_path: Path, python: Python) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    python(USE, str(tmp_path), cwd=tmp_path, PYTHONPATH=str(tmp_path))
