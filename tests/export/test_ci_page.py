"""docs/ci.md: its commands are words the commands know, its workflow is YAML, its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lightseg.export import cli, verify_cli
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


def test_the_helpers_pass_a_sound_file(exported: Exported) -> None:
    names: dict[str, object] = {}
    exec(block("python"), names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for function in tests:
        assert callable(function)
        function(exported("sinet", "tflite").path)
