"""What is read from the emulated processor: answers, float16 arithmetic asked for, and instruction counts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks.arm64.emulate import _allowing_sums, arithmetics, count_emulated, emulate, read_counts
from lightseg.benchmarks.arm64.root import Root, default_root, why_not
from lightseg.benchmarks.counting.instructions import COUNTED_MODULE, CountedRunner
from lightseg.benchmarks.timing.process import Failed
from lightseg.errors import BadInput, ParityError
from lightseg.export import export
from lightseg.export.record import read_artifact
from lightseg.export.targets import TARGETS
from lightseg.zoo import create_model

ASK = ("tflite", "ncnn")
"""The formats whose runtime can be asked for float16 arithmetic."""


def region(total: int, fma: int = 0, half: int = 0) -> str:
    return f"total={total} fma={fma} fma16={half} vector=0 memory=5 branch=1 other=2"


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ExtremeC3Net with random weights at 32×64 as float16 files, by target."""
    folder = tmp_path_factory.mktemp("halves")
    for name in ASK:
        if reason := TARGETS[name].why_not_convert() or TARGETS[name].why_not_load():
            pytest.skip(reason)
    model = create_model("extremec3net", "random")
    written = {name: export(model, to=name, out=folder, precision="fp16", input_size=(32, 64)) for name in ASK}
    return {name: artifact.path for name, artifact in written.items()}


def test_counts_are_read_without_the_empty_region(tmp_path: Path) -> None:
    (tmp_path / "counts").write_text("\n".join([region(50), region(1050, 400), region(1040, 399)]) + "\n")
    read = read_counts(tmp_path / "counts", 2)
    assert read.samples == (1000, 990)
    assert read.mix == {"fma": 399, "fma16": 0, "vector": 0, "memory": 5, "branch": 1, "other": 2}


@pytest.mark.parametrize("text", [None, "", "total=x", region(5), "\n".join([region(5)] * 4)])
def test_counts_that_are_not_what_was_asked(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "counts").write_text(text)
    with pytest.raises(Failed, match="set it up again"):
        read_counts(tmp_path / "counts", 2)


@pytest.fixture(params=[7])
def native(monkeypatch: pytest.MonkeyPatch, root: Root, request: pytest.FixtureRequest) -> Root:
    """The guest's program run on this processor, and a plugin that counted something: 7 float16 multiply-adds."""

    def command(self: Root, program: list[str], counts: Path | None = None) -> list[str]:
        assert program == ["-m", COUNTED_MODULE, "syscall"] and counts is not None
        full = [region(1_000_010 + n, half=request.param) for n in range(4)]
        counts.write_text("\n".join([region(10), *full]))
        return [sys.executable, *program]

    monkeypatch.setattr(Root, "command", command)
    return root


@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_an_artifact_is_compared_with_its_golden_outputs(target: str, native: Root, small: dict[str, Path]) -> None:
    row = emulate(native, small[target])
    assert row.instructions.count == 1_000_000
    assert [one["probe"] for one in row.parity] == ["photo", "scene"]
    assert row.relative_error is not None and row.relative_error < 1e-4
    assert (row.changed, row.pixels, row.disagrees) == (0, 2 * 32 * 64, None)
    assert json.loads(json.dumps(row.to_dict()))["device"] == "arm64 (emulated)"


def test_a_wrong_answer_is_no_success(native: Root, small: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = CountedRunner.fetch
    monkeypatch.setattr(CountedRunner, "fetch", lambda self: fetch(self) * 1.01)
    row = emulate(native, small["tflite"])
    assert row.disagrees is not None and "does not repeat its golden output" in row.disagrees
    assert row.relative_error == pytest.approx(0.01, rel=0.1)  # the figures are kept
    assert all(one["max_error"] > one["allowed"] > 0 for one in row.parity)
    with pytest.raises(ParityError, match="on the emulated ARM processor"):
        count_emulated(native)(small["tflite"], None)  # type: ignore[arg-type]


def test_a_file_that_nothing_there_runs(root: Root, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"runs \.tflite, \.onnx, \.ncnn files"):
        emulate(root, tmp_path / "a.pte")


def test_float16_files_are_asked_for_float16_too(small: dict[str, Path], halves: dict[str, Path]) -> None:
    assert [arithmetics(path) for path in halves.values()] == [(False, True)] * len(ASK)
    assert [arithmetics(path) for path in small.values()] == [(False,)] * len(small)


@pytest.mark.parametrize("target", ASK)
def test_float16_arithmetic_is_asked_of_the_runtime(target: str, native: Root, halves: dict[str, Path]) -> None:
    row = emulate(native, halves[target], half=True)
    assert row.disagrees is None and len(row.parity) == 2
    assert row.details["arithmetic"] == "float16"
    assert row.title == f"{halves[target].name} in float16 arithmetic"
    assert row.to_dict()["half"] is True


@pytest.mark.parametrize("native", [0], indirect=True)
def test_float16_that_was_asked_for_and_did_not_run_is_no_row(native: Root, halves: dict[str, Path]) -> None:
    with pytest.raises(Failed, match="ran no float16 multiply-add"):
        emulate(native, halves["tflite"], half=True)


def test_sums_of_halves_beyond_the_limits_are_told_with_their_figures(
    native: Root, halves: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = CountedRunner.fetch
    monkeypatch.setattr(CountedRunner, "fetch", lambda self: fetch(self) * 1.5)
    row = emulate(native, halves["tflite"], half=True)
    assert row.disagrees is not None and row.disagrees.startswith("in float16 arithmetic on ")
    assert "of 2,048 pixels changed class" in row.disagrees
    assert "export it again" not in row.disagrees


def test_without_the_network_the_files_own_limits_stand(halves: dict[str, Path]) -> None:
    artifact = replace(read_artifact(halves["tflite"]), tag="mine")
    same, why = _allowing_sums(artifact)
    assert same is artifact and "what rounded sums do is not known here" in why and "mine" in why


@pytest.mark.parametrize("half", [False, True])
def test_nan_has_no_figures(half: bool, native: Root, halves: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountedRunner, "fetch", lambda self: np.full((1, 1, 32, 64), np.nan))
    row = emulate(native, halves["tflite"], half)
    assert row.disagrees is not None and "nan" in row.disagrees
    assert row.parity == ()


def emulated(path: Path, **how: Any) -> Any:
    if reason := why_not(default_root()):
        pytest.skip(reason)
    return emulate(default_root(), path, **how)


@pytest.mark.slow
@pytest.mark.parametrize("target", ASK)
def test_arm_kernels_compute_in_float16_when_asked(target: str, halves: dict[str, Path]) -> None:
    row = emulated(halves[target], half=True)
    assert row.instructions.mix["fma16"] > 10 * row.instructions.mix["fma"]
    assert row.changed < 0.01 * row.pixels and row.relative_error < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite"])
def test_arm_kernels_equal_pytorch_and_repeat_their_count(target: str, small: dict[str, Path]) -> None:
    first, second = (emulated(small[target]) for _ in range(2))
    assert first.disagrees is None and first.changed == 0
    assert first.instructions.count == pytest.approx(second.instructions.count, rel=5e-3)
    assert first.macs is not None
    assert first.macs / 16 < first.instructions.count < first.macs * 16
    assert first.instructions.mix is not None and first.instructions.mix["fma"] * 4 > first.macs * 0.8
