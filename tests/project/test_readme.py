"""The README tells the truth: its tables are fresh, its commands exist, its Python runs."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.project.checkout import ROOT, scripts

README = ROOT / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> Iterator[list[str]]:
    """Every line that begins with one of our commands, without the remark behind it (# or two spaces)."""
    for line in text.splitlines():
        if line.strip().startswith("lightseg-"):
            yield shlex.split(re.split(r"\s{2,}|\s#", line.strip())[0])


def parses(words: list[str]) -> None:
    parser_of(words[0]).parse_args(words[1:])


def parser_of(script: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = import_module(scripts()[script].partition(":")[0]).parser()
    return made


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


def test_tables_are_fresh() -> None:
    from lightseg.benchmarks.readme import with_tables

    text = README.read_text(encoding="utf-8")
    assert text == with_tables(text), "type: python -m lightseg.benchmarks.readme_cli --write README.md"


@pytest.mark.parametrize("words", list(command_lines("\n".join(blocks("sh")))), ids=shlex.join)
def test_a_command_of_the_readme_parses(words: list[str]) -> None:
    parses(words)


@pytest.mark.parametrize("script", scripts())
def test_the_examples_in_help_parse(script: str) -> None:
    found = list(command_lines(parser_of(script).epilog or ""))
    assert found, f"{script} --help shows no example"
    for words in found:
        parses(words)


@pytest.mark.parametrize("script", scripts())
def test_the_readme_names_every_command(script: str) -> None:
    assert script in README.read_text(encoding="utf-8")


def test_ci_runs_the_commands_of_the_readme() -> None:
    mark = re.compile(r"^<!-- command (\w+) -->\n```bash\n(.+)\n```$", re.MULTILINE)
    names = [name for name, _ in mark.findall(README.read_text(encoding="utf-8"))]
    assert names == ["demo", "tests", "slow"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"run_command {name} " in ci for name in names)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), space)
    assert callable(space["runner"])


def test_notice_holds_the_terms_of_the_released_weights() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2019-present NAVER Corp." in notice
    assert "Permission is hereby granted, free of charge" in notice
