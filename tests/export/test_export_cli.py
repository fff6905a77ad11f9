"""lightseg-export and lightseg-verify as a user meets them: words, exit codes, JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import BadInput
from lightseg.export import cli, general, read_artifact, verify_cli
from lightseg.export.targets import TARGETS
from lightseg.files import sha256_of
from tests.export.quantization.photos import write_photos
from tests.export.subjects import plain, require, small_size
from tests.export.test_pipeline import raising, with_defect

SIZE = "x".join(map(str, small_size("sinet")))
RANDOM = ["--model", "sinet", "--weights", "random", "--input-size", SIZE]


@pytest.fixture(autouse=True)
def _made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands ask for a reference; it is the same each time."""

    def same(model: Any, height: int, width: int) -> Any:
        ref = plain(model.spec.name)
        assert (height, width) == ref.size and model.weights == ref.model.weights
        return ref

    monkeypatch.setattr("lightseg.export.reference.Reference", same)
    monkeypatch.setattr("lightseg.export.pipeline.Reference", same)


@pytest.fixture
def written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    require("onnx")
    assert cli.main([*RANDOM, "--to", "onnx", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    return tmp_path / f"sinet-random-fp32-{SIZE}.onnx"


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Standard error, which holds one line; nothing of a traceback."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def test_writes_says_and_returns_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in ("onnx", "tflite"):
        require(target)
    assert cli.main([*RANDOM, "--to", "onnx,tflite", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for suffix in (".onnx", ".tflite"):
        assert read_artifact(tmp_path / f"sinet-random-fp32-{SIZE}{suffix}").parity
    assert said.count("passed") == 2 and "random initialisation" in said


def test_json_on_standard_output_is_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("onnx")
    assert cli.main([*RANDOM, "--to", "onnx", "--out", str(tmp_path), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert sha256_of(Path(record["path"])) == record["sha256"]
    assert record["parity"]["ok"] is True and record["model"] == "sinet"


def test_json_to_a_file_leaves_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("onnx")
    assert cli.main([*RANDOM, "--to", "onnx", "--out", str(tmp_path), "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())[0]["target"] == "onnx"
    assert "passed" in capsys.readouterr().out


WRONG: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "sinnet", "--to", "onnx"], "did you mean sinet"),
    "tag": (["--model", "sinet.clowa", "--to", "onnx"], "did you mean clova"),
    "target": ([*RANDOM, "--to", "onxx"], "did you mean onnx"),
    "one of two targets": ([*RANDOM, "--to", "onnx,tflight"], "did you mean tflite"),
    "precision": ([*RANDOM, "--to", "onnx", "--precision", "fp23"], "did you mean fp32"),
    "output": ([*RANDOM, "--to", "onnx", "--output", "logit"], "did you mean logits"),
    "preprocess": ([*RANDOM, "--to", "onnx", "--preprocess", "backed"], "did you mean baked"),
    "size": (
        ["--model", "sinet", "--weights", "random", "--to", "onnx", "--input-size", "200x200"],
        "try --input-size 192x192",
    ),
    "pair": ([*RANDOM, "--to", "tflite", "--dynamic"], "--to onnx"),
    "precision of all": ([*RANDOM, "--to", "all", "--precision", "fp23"], "did you mean fp32"),
    "plain pair": ([*RANDOM, "--to", "onnx,tflite", "--plain", "--precision", "fp16"], "leave --precision fp16"),
    "plain and dynamic": ([*RANDOM, "--to", "all", "--plain", "--dynamic"], "leave --dynamic"),
    "deployment target": ([*RANDOM, "--to", "coreml", "--deployment-target", "iOS14"], "did you mean iOS1"),
    "two deployment targets": ([*RANDOM, "--to", "coreml", "--deployment-target", "iOS16,iOS17"], "name the oldest"),
    "deployment target of none": ([*RANDOM, "--to", "onnx", "--deployment-target", "iOS17"], "is for --to coreml"),
    "too old for int8": (
        [*RANDOM, "--to", "coreml", "--precision", "int8", "--deployment-target", "iOS16"],
        "use --deployment-target iOS17",
    ),
    "plain for a system": (
        [*RANDOM, "--to", "coreml", "--plain", "--deployment-target", "iOS17"],
        "leave --deployment-target",
    ),
    "no model's name": (["--model", ",", "--to", "onnx"], "--model , names no model"),
    "no weights file": (["--model", "sinet", "--weights", "none.pth", "--to", "onnx"], "none.pth"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_words_are_one_line_and_1(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = WRONG[what]
    assert cli.main([*argv, "--out", str(tmp_path)]) == 1
    line = one_line(capsys)
    assert line.startswith("lightseg-export: ") and said in line
    assert not list(tmp_path.iterdir())


USAGE: dict[str, tuple[list[str], str]] = {
    "engines explained": (
        [*RANDOM, "--to", "tensorrt_rtx", "--explain", "--capability", "8.9"],
        "--explain takes no notice of --capability",
    ),
    "a table of variants": (
        ["--matrix", "--dynamic", "--output", "mask"],
        "--matrix takes no notice of --output, --dynamic",
    ),
    "two modes": (["--matrix", "--explain"], "--matrix takes no notice of --explain"),
    "no target": (RANDOM, "--to"),
    "no model": (["--to", "onnx"], "--model"),
}


@pytest.mark.parametrize("what", USAGE)
def test_wrong_usage_is_2(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv, said = USAGE[what]
    with pytest.raises(SystemExit) as caught:
        cli.main([*argv, "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def _asked(*argv: str) -> list[str]:
    args = cli.parser().parse_args([*RANDOM, "--precision", "fp32", "--json", "-", *argv])
    return [job.args[1] for job in cli._jobs(args)]  # type: ignore[attr-defined]


def test_all_plain_means_the_targets_with_a_general_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    require("onnx")
    asked = _asked("--to", "all", "--plain")
    assert "onnx" in asked and set(asked) <= set(general.GENERAL) < set(TARGETS)
    baked = _asked("--to", "all", "--plain", "--preprocess", "baked")
    assert "onnx" in baked and all(general.GENERAL[name].bakes for name in baked)
    absent = replace(general.GENERAL["onnx"], needs=("no_such_package",))
    monkeypatch.setattr(general, "GENERAL", general.GENERAL | {"onnx": absent})
    assert "onnx" not in _asked("--to", "all", "--plain") and _asked("--to", "onnx", "--plain") == ["onnx"]
    monkeypatch.setattr(general, "GENERAL", {"onnx": absent})
    with pytest.raises(BadInput, match=r"install one of lightseg\[onnx\]"):
        _asked("--to", "all", "--plain")


def test_each_target_is_made_for_its_own_devices() -> None:
    argv = [*RANDOM, "--precision", "fp32", "--json", "-", "--to", "onnx,coreml,tensorrt_rtx"]
    args = cli.parser().parse_args([*argv, "--capability", "8.6,8.9", "--deployment-target", "iOS18"])
    found = cli._devices(args, args.to.split(","))
    assert found["coreml"] == ("iOS18",) and found["tensorrt_rtx"] == ("8.6", "8.9") and "onnx" not in found
    assert cli._devices(cli.parser().parse_args(argv), args.to.split(",")) == {}


@pytest.mark.parametrize("option", ["--calibration", "--evaluation"])
def test_photographs_are_refused_before_any_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("onnx")
    monkeypatch.setattr("lightseg.export.reference.Reference", raising(AssertionError("worked")))
    (tmp_path / "photos").mkdir()
    folders = {"--calibration": str(write_photos(tmp_path / "photos", 16)), option: str(tmp_path)}
    words = [word for pair in folders.items() for word in pair]
    assert cli.main([*RANDOM, "--to", "onnx", "--precision", "int8", *words, "--out", str(tmp_path / "out")]) == 1
    assert f"give {option}" in one_line(capsys) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "argv", [["--model", "sinet,sinett", "--to", "onnx"], ["--model", "sinet", "--to", "onnx,onx"]]
)
def test_nothing_is_written_before_every_name_is_known(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("onnx")
    assert cli.main([*argv, "--weights", "random", "--input-size", SIZE, "--out", str(tmp_path)]) == 1
    assert "did you mean" in one_line(capsys) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [["--input-size", "224"], ["--input-size", "0x32"], ["--colour", "red"], ["extra"]])
@pytest.mark.parametrize("main", [cli.main, verify_cli.main])
def test_usage_is_2(main: Any, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if main is verify_cli.main and argv == ["extra"]:
        argv = []
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("points", ["nan", "-1", "inf", "half"])
def test_a_drop_that_is_no_number_of_points_is_2(points: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the search, which would look for minutes."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*RANDOM, "--to", "onnx", "--precision", "int8", "--calibration", ".", f"--max-drop={points}"])
    assert ended.value.code == 2 and "--max-drop" in capsys.readouterr().err


@pytest.mark.parametrize("main", [cli.main, verify_cli.main])
def test_help_has_examples(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_missing_extra(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: None)
    assert cli.main([*RANDOM, "--to", "tflite", "--out", str(tmp_path)]) == 1
    assert "pip install 'lightseg[tflite]'" in one_line(capsys)


def test_list_names_targets_and_reasons(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["target"] for r in rows] == list(TARGETS)
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: None)
    assert cli.main(["--list"]) == 0
    said = capsys.readouterr().out
    for target in TARGETS.values():
        assert target.name in said and f"lightseg[{target.extra}]" in said


def test_out_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require("onnx")
    (tmp_path / "out").write_text("in the way")
    assert cli.main([*RANDOM, "--to", "onnx", "--out", str(tmp_path / "out")]) == 1
    assert "--out" in one_line(capsys)


def test_failed_parity_is_1_and_keeps_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One target fails; the other is written, and standard output tells of that one alone."""
    for target in ("onnx", "tflite"):
        require(target)
    convert = with_defect("onnx", "classes swapped")
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], convert=convert))
    assert cli.main([*RANDOM, "--to", "onnx,tflite", "--out", str(tmp_path), "--json"]) == 1
    seen = capsys.readouterr()
    assert [r["target"] for r in json.loads(seen.out)] == ["tflite"]
    assert seen.err.count("\n") == 1 and "allowed" in seen.err and ".failed" in seen.err
    names = {p.name for p in tmp_path.iterdir()}
    stem = f"sinet-random-fp32-{SIZE}"
    assert names == {f"{stem}{s}" for s in (".tflite", ".tflite.json", ".onnx.failed", ".onnx.failed.json")}


def test_verify_says_proven_and_repeats_in_json(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_cli.main([str(written)]) == 0
    assert "proven" in capsys.readouterr().out
    assert verify_cli.main([str(written), "--torch", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["ok"] is True and found["parity"]["ok"] is True and len(found["goldens"]) == 2


def test_verify_goes_on_after_a_bad_file(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = written.with_name("bad.onnx")
    bad.write_bytes(b"nothing")
    assert verify_cli.main([str(bad), str(written), "--json"]) == 1
    seen = capsys.readouterr()
    rows = json.loads(seen.out)
    assert [r["ok"] for r in rows] == [False, True] and "bad.onnx" in rows[0]["error"]
    assert seen.err.count("\n") == 1


def test_verify_of_a_failed_artifact_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("onnx")
    convert = with_defect("onnx", "stale weights in one layer")
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], convert=convert))
    assert cli.main([*RANDOM, "--to", "onnx", "--out", str(tmp_path)]) == 1
    capsys.readouterr()
    assert verify_cli.main([str(tmp_path / f"sinet-random-fp32-{SIZE}.onnx.failed")]) == 1
    assert "golden" in one_line(capsys)
