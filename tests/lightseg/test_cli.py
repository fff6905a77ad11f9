"""What all commands share: exit codes, one line of error, and the vocabulary."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightseg.cli import add_json, add_model, add_threads, command, emit_json, model_names, run, size
from lightseg.errors import BadInput, OutputError
from lightseg.zoo import MODELS


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = command("lightseg-test", "Tests.", "  lightseg-test --threads 2")
    for add in (add_model, add_json, add_threads):
        add(parser)
    return parser


def test_done_is_0_and_error_is_one_line_and_1(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> None:
        raise BadInput("it is too small; try a larger one")

    assert run(parser, lambda args: None, []) == 0
    assert run(parser, fail, []) == 1
    assert capsys.readouterr().err == "lightseg-test: it is too small; try a larger one\n"


def test_usage_is_2_and_a_bug_keeps_its_traceback(parser: argparse.ArgumentParser) -> None:
    with pytest.raises(SystemExit) as usage:
        run(parser, lambda args: None, ["--threads", "0"])
    assert usage.value.code == 2
    with pytest.raises(ZeroDivisionError):
        run(parser, lambda args: 1 // 0, [])


def test_help_has_examples(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        run(parser, lambda args: None, ["--help"])
    assert done.value.code == 0 and "lightseg-test --threads 2" in capsys.readouterr().out


def test_interrupted(parser: argparse.ArgumentParser) -> None:
    def interrupt(args: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    assert run(parser, interrupt, []) == 130


def test_a_reader_that_left_is_no_error() -> None:
    script = (
        "import argparse, sys; from lightseg.cli import run\n"
        "sys.exit(run(argparse.ArgumentParser(), lambda args: print('x' * 1_000_000), []))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (141, b"")


@pytest.mark.parametrize(("text", "expected"), [("224x224", (224, 224)), ("512X1024", (512, 1024))])
def test_size(text: str, expected: tuple[int, int]) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "224", "x", "0x5", "-1x5", "2x3x4", "axb"])
def test_size_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
        size(text)


def test_model_names() -> None:
    assert model_names("all", "sinet") == list(MODELS)
    assert model_names(None, "sinet") == ["sinet"]
    assert model_names("sinet.clova,c3net", "sinet") == ["sinet.clova", "c3net"]


def test_json_goes_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"size": "3×4"}
    emit_json(None, data)
    assert capsys.readouterr().out == ""
    emit_json("-", data)
    assert json.loads(capsys.readouterr().out) == data
    emit_json(str(tmp_path / "a.json"), data)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == data
    with pytest.raises(OutputError):
        emit_json(str(tmp_path / "a.json" / "b.json"), data)


def test_json_never_swallows_the_file_that_follows_it(
    parser: argparse.ArgumentParser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, earlier = tmp_path / "a.jpg", tmp_path / "r.json"
    photo.write_bytes(b"a photograph")
    earlier.write_text("{}")
    assert parser.parse_args(["--json", str(earlier)]).json == str(earlier)
    for path, said in ((photo, "is no .json file"), (tmp_path, "is a folder")):
        with pytest.raises(SystemExit) as caught:
            parser.parse_args(["--json", str(path)])
        assert caught.value.code == 2 and said in capsys.readouterr().err


def test_a_list_of_no_models_is_refused() -> None:
    with pytest.raises(BadInput, match="names no model"):
        model_names(",", "sinet")
