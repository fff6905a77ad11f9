"""docs/ci.md: its commands are words the commands know, its workflow is YAML, its Python runs."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import ParityError
from lightseg.export import cli, load, verify_cli
from lightseg.images import read_photo, sample_photo, write_png
from tests.export.conftest import Exported

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
PARSERS = {"lightseg-export": cli.parser, "lightseg-verify": verify_cli.parser}
COMMANDS = re.findall(r"run: (lightseg-.+)", PAGE)


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line: str) -> None:
    name, *words = shlex.split(line)
    PARSERS[name]().parse_args(words)


def test_the_workflow_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(block("yaml"))["jobs"]
    said = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert [line for line in said if line.startswith("lightseg-")] == COMMANDS and len(COMMANDS) == 4


def _helpers() -> dict[str, Callable[..., None]]:
    names: dict[str, Any] = {}
    exec(block("python"), names)
    return {name: function for name, function in names.items() if name.startswith("test_")}


def test_the_helpers_pass_a_sound_file(exported: Exported, photographs: Path) -> None:
    helpers = _helpers()
    assert len(helpers) == 3
    for function in helpers.values():
        given = {"path": exported("sinet", "tflite").path, "photographs": photographs}
        function(**{name: given[name] for name in inspect.signature(function).parameters})


@pytest.mark.parametrize("name", ["test_our_own_runtime", "test_our_own_runtime_decides_as_the_shipped_file_does"])
def test_the_helpers_refuse_a_runtime_that_answers_wrongly(
    name: str, exported: Exported, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file loaded is the runtime under test."""
    loaded: list[Any] = []

    def wrong(path: Path) -> Any:
        sound = load(path)
        loaded.append(sound)
        return sound if len(loaded) > 1 else lambda x: -sound(x)

    monkeypatch.setattr("lightseg.export.verification.load", wrong)
    given = {"path": exported("sinet", "tflite").path, "photographs": photographs}
    function = _helpers()[name]
    with pytest.raises(ParityError):
        function(**{word: given[word] for word in inspect.signature(function).parameters})


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    write_png(tmp_path / "a.png", read_photo(sample_photo())[::4, ::4])
    return tmp_path
