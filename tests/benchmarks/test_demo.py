"""The demonstration hands each command the result of the one before, and stops where one fails."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import demo as subject
from lightseg.benchmarks import demo_cli
from lightseg.benchmarks.timing.subject import INTERPRETER
from lightseg.errors import LightsegError, MissingExtra

Results = dict[str, Any]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines run, by stand-ins that only write what the real commands would."""
    return stand_in(monkeypatch, {"export": [record("a.onnx"), record("a.tflite"), record("a.mlpackage", INTERPRETER)]})


def record(path: str, runtime: str = "fast") -> dict[str, Any]:
    return {"path": path, "parity": {"runner": {"runtime": runtime}}}


def stand_in(monkeypatch: pytest.MonkeyPatch, results: Results, codes: dict[str, int] | None = None) -> list[list[str]]:
    made: list[list[str]] = []
    results = {"predict": [{"files": ["m.png", "c.png", "o.png"]}], "bench": {}, **results}

    def command(name: str, parser: argparse.ArgumentParser) -> Callable[[Sequence[str]], int]:
        def main(argv: Sequence[str]) -> int:
            parser.parse_args(argv)  # the real one: exits where it does not know the option
            made.append([name, *argv])
            sys.stdout.write(f"{name} speaks\n")
            Path(argv[-1]).write_text(json.dumps(results[name]))
            return (codes or {}).get(name, 0)

        return main

    for name, module in [("export", "export_cli"), ("predict", "predict_cli"), ("bench", "bench_cli")]:
        commands = getattr(subject, module)
        monkeypatch.setattr(commands, "main", command(name, commands.parser()))
    return made


def run(tmp_path: Path, model: str = "sinet", weights: str | None = None) -> dict[str, Any]:
    return subject.demo(model, weights, Path("p.jpg"), tmp_path, lambda number, step: None)


def test_each_command_gets_what_the_one_before_wrote(calls: list[list[str]], tmp_path: Path) -> None:
    result = run(tmp_path)
    export, predict, bench = calls
    out = str(tmp_path)
    assert export == ["export", "--model", "sinet", "--to", "all", "--out", out, "--json", f"{out}/export.json"]
    assert predict == ["predict", "p.jpg", "--artifact", "a.tflite", "--out", out, "--json", f"{out}/predict.json"]
    assert bench == ["bench", "a.onnx", "a.tflite", "--quick", "--json", f"{out}/bench.json"]
    assert result["artifacts"] == ["a.onnx", "a.tflite", "a.mlpackage"]
    assert result["pictures"] == ["m.png", "c.png", "o.png"]
    assert [step["command"].split()[0] for step in result["steps"]] == [f"lightseg-{call[0]}" for call in calls]


def test_weights_go_to_the_commands_that_need_the_model(calls: list[list[str]], tmp_path: Path) -> None:
    run(tmp_path, "c3net", "mine.safetensors")
    with_weights = [name for name, *argv in calls if "mine.safetensors" in argv]
    assert with_weights == ["export", "bench"]


@pytest.mark.parametrize("failing", ["export", "predict", "bench"])
def test_it_stops_where_a_command_fails(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch, {"export": [record("a.onnx")]}, {failing: 1})
    with pytest.raises(LightsegError, match=f"stopped at lightseg-{failing}"):
        run(tmp_path)
    assert calls[-1][0] == failing


def test_without_a_runtime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, {"export": [record("a.mlpackage", INTERPRETER)]})
    with pytest.raises(MissingExtra, match=r"pip install 'lightseg\[cpu\]'"):
        run(tmp_path)


def test_the_command_says_where_everything_lies(calls: list[list[str]], tmp_path: Path, capsys: Capture) -> None:
    assert demo_cli.main(["--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("a.onnx", "a.tflite", "o.png", "[3/3]", "next", f"{tmp_path}/bench.json"))
    assert calls[1][1].endswith("astronaut.jpg")


def test_json_on_standard_output_stands_alone(calls: list[list[str]], tmp_path: Path, capsys: Capture) -> None:
    assert demo_cli.main(["--out", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert set(json.loads(captured.out)) == {"steps", "artifacts", "used", "pictures", "seconds"}
    assert "bench speaks" in captured.err


def test_a_wrong_photo_is_refused_before_any_work(calls: list[list[str]], tmp_path: Path, capsys: Capture) -> None:
    assert demo_cli.main(["--photo", str(tmp_path / "absent.jpg")]) == 1
    assert "cannot open" in capsys.readouterr().err
    assert not calls
