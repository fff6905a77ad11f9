"""The proof tried on itself: every target refuses every seeded defect, and the report says so when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import ParityError
from lightseg.export import selftest, verify_cli
from lightseg.export.defects import COARSE_DEFECTS, GRAPH_DEFECTS, RUNNER_DEFECTS
from lightseg.export.parity import Parity, measure
from lightseg.export.selftest import SelfTest, Trial, self_test, size_of_trials
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS
from tests.export.subjects import lively, reference, require

FIELD = {
    "align_corners flipped",
    "channel order swapped",
    "division by 255 missing",
    "mean missing",
    "input NCHW read as NHWC",
    "negative slopes dropped",
    "batch-norm eps 1e-05",
    "padding off by one",
    "stale weights",
    "classes swapped",
    "one pixel to the right",
    "branch dropped",
    "beyond the range of float16",
}
"""What goes wrong in the field; SINet has a place for each of them."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"), [(t.name, p) for t in TARGETS.values() for p in t.precisions if p != "int8"]
)
def test_every_defect_in_a_file_of_the_target_is_refused(target: str, precision: str) -> None:
    require(target)
    result = self_test(lively("sinet"), target, precision, reference("sinet"))
    assert result.survivors == [] and result.kill_rate == 1
    assert {t.defect for t in result.trials if t.caught} >= FIELD
    assert result.smallest_caught is not None and result.smallest_caught <= 1e-1


@pytest.mark.parametrize("name", MODELS)
def test_the_size_of_trials_fits(name: str) -> None:
    spec = MODELS[name]
    spec.check_size(*size_of_trials(spec))


def test_a_proof_that_lets_all_pass_survives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that never refuses is reported as one: all tried, none caught."""
    require("onnx")
    few = {k: GRAPH_DEFECTS[k] for k in ("classes swapped", "kernel rolled")}
    monkeypatch.setattr(selftest, "GRAPH_DEFECTS", few)
    monkeypatch.setattr(selftest, "PREPROCESS_DEFECTS", {})

    class Blind(Parity):
        @property
        def ok(self) -> bool:
            return True

    def blind(*args: Any) -> Parity:
        seen = measure(*args)
        return Blind(seen.reference, seen.runner, seen.probes)

    monkeypatch.setattr(selftest, "measure", blind)
    result = self_test(lively("sinet"), "onnx", reference=reference("sinet"))
    assert result.kill_rate == 0 and result.smallest_caught is None
    assert len(result.survivors) == result.tried == 4 + len(RUNNER_DEFECTS | COARSE_DEFECTS)


def test_an_unsound_file_is_no_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    require("onnx")
    ref = reference("sinet")
    monkeypatch.setitem(ref.logits, "photo", ref.logits["photo"] + 1)
    with pytest.raises(ParityError, match="the sound onnx file"):
        self_test(lively("sinet"), "onnx", reference=ref)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[bool | None]:
    """What the trials say; the command is told the same whatever it asks for."""
    outcomes: list[bool | None] = [True, None]

    def made(model: Any, target: str, precision: str, **rest: Any) -> SelfTest:
        trials = tuple(Trial(f"defect {i}", "file", o, "probe photo") for i, o in enumerate(outcomes))
        return SelfTest("sinet-random", target, precision, "stub", trials, 1e-4)

    monkeypatch.setattr(selftest, "self_test", made)
    return outcomes


ARGV = ["--self-test", "--model", "sinet", "--weights", "random", "--to", "onnx"]


def test_all_caught_is_0(told: list[bool | None], capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_cli.main(ARGV) == 0
    said = capsys.readouterr().out
    assert "1 of 1 defects caught, 100 %" in said and "not tried  defect 1" in said


def test_a_survivor_is_1_and_named(told: list[bool | None], capsys: pytest.CaptureFixture[str]) -> None:
    told[:] = [True, False]
    assert verify_cli.main([*ARGV, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert result["kill_rate"] == 0.5 and [t["caught"] for t in result["trials"]] == [True, False]


def test_nothing_tried_is_1(told: list[bool | None]) -> None:
    told[:] = [None]
    assert verify_cli.main(ARGV) == 1


def test_a_target_that_is_refused_leaves_the_others(
    told: list[bool | None], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = selftest.self_test

    def refusing(model: Any, target: str, precision: str, **rest: Any) -> SelfTest:
        if target == "onnx":
            raise ParityError("the sound onnx file does not equal PyTorch")
        return made(model, target, precision, **rest)

    monkeypatch.setattr(selftest, "self_test", refusing)
    files = {name: tmp_path / f"found.{name}" for name in ("json", "junit")}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    assert verify_cli.main([*ARGV[:-1], "onnx,tflite", *words]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "onnx fp32: the sound onnx file" in said.err and "tflite fp32" in said.out
    found = json.loads(files["json"].read_text())
    assert {r["target"]: "error" in r for r in found} == {"tflite": False, "onnx": True}
    text = files["junit"].read_text()
    assert text.count("<failure") == 1 and text.count("<skipped") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--self-test", "--to", "onnxx"], "did you mean"),
        (["--self-test", "--to", ","], "names no target"),
        (["--self-test", "--precision", "int3"], "did you mean int8"),
        (["--self-test", "--model", "sinett"], "did you mean"),
        (["--self-test", "--to", "tflite", "--precision", "int3"], "int3"),
    ],
)
def test_wrong_words_are_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify_cli.main(argv) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
