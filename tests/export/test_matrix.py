"""The support table: made from evidence, resumed where it stopped, and never older than the code that decides."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import BadInput
from lightseg.export import cli, deciders, support
from lightseg.export.deciders import code_hash, without_words
from lightseg.export.parity import TOLERANCE
from lightseg.export.support import RESULTS, TABLE, Cell, all_cells, decide, read_cells, run_matrix, write_cells
from lightseg.export.support_table import markdown
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RECORD = {
    "path": "x.onnx",
    "parity": {"relative_error": 2.5e-6, "agreement": 0.99999, "runner": {"runtime": "stub", "version": "1"}},
    "versions": {"torch": "2"},
    "quantization": None,
}


@pytest.mark.parametrize("target", TARGETS)
def test_no_committed_cell_is_older_than_the_code_that_decides(target: str) -> None:
    old = [cell for cell in read_cells(DOCS) if cell.target == target and cell.old]
    again = f"lightseg-export --matrix --to {target} --out docs"
    assert not old, f"{len(old)} cells of docs/{TABLE} were decided by other code or weights; run them again: {again}"


def test_the_committed_page_is_made_of_the_committed_results() -> None:
    assert (DOCS / TABLE).read_text(encoding="utf-8") == markdown(read_cells(DOCS))


def test_committed_verdicts_carry_their_evidence() -> None:
    decided = [cell for cell in read_cells(DOCS) if cell.decided]
    assert decided and {cell.status for cell in decided} <= {"validated", "blocked"}
    for cell in decided:
        if cell.status == "validated":
            assert cell.runner and cell.versions and cell.relative_error is not None and cell.seconds
            assert cell.weights == MODELS[cell.model].weights[0].sha256
        else:
            assert cell.reason


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the cells, which are not run; every model but c3net passes."""
    seen: list[list[str]] = []

    def run(command: list[str], **rest: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        if "c3net" in command:
            return subprocess.CompletedProcess(command, 1, "", "noise\nlightseg-export: a weight is beyond float16\n")
        path = Path(command[command.index("--json") + 1])
        (path.parent / "x.onnx").write_bytes(bytes(12_345))
        path.write_text(json.dumps([RECORD | {"path": str(path.parent / "x.onnx")}]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: object())
    return seen


ASKED: tuple[list[str], list[str], list[str]] = (["sinet", "c3net"], ["onnx"], ["fp32"])


def test_cells_are_decided_once_and_again_when_the_code_changes(
    process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {c.key: c for c in run_matrix(tmp_path, *ASKED)}
    good, bad = cells["sinet", "onnx", "fp32"], cells["c3net", "onnx", "fp32"]
    assert (good.status, good.relative_error, good.kilobytes) == ("validated", 2.5e-6, 12)
    assert (bad.status, bad.reason) == ("blocked", "a weight is beyond float16")
    assert sum(c.decided for c in cells.values()) == len(process) == 2
    assert read_cells(tmp_path) == list(cells.values()) == run_matrix(tmp_path, *ASKED) and len(process) == 2
    monkeypatch.setattr(support, "code_hash", lambda target, precision: "other")
    run_matrix(tmp_path, ["sinet"], *ASKED[1:])
    assert len(process) == 3 and {c.model for c in read_cells(tmp_path) if c.code == "other"} == {"sinet"}


def test_cells_are_decided_again_when_the_weights_change(
    process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_matrix(tmp_path, *ASKED)
    spec = MODELS["sinet"]
    first, *rest = spec.weights
    changed = replace(spec, weights=(replace(first, sha256="0" * 64), *rest))
    monkeypatch.setitem(MODELS, "sinet", changed)
    assert [cell.model for cell in read_cells(tmp_path) if cell.old] == ["sinet"]
    run_matrix(tmp_path, *ASKED)
    assert len(process) == 3 and not any(cell.old for cell in read_cells(tmp_path))


def test_a_stop_loses_one_cell(process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(cell: Cell, int8: Sequence[str]) -> Cell:
        if cell.model == "c3net":
            raise KeyboardInterrupt
        return decide(cell)

    monkeypatch.setattr(support, "decide", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_matrix(tmp_path, *ASKED)
    assert [cell.model for cell in read_cells(tmp_path) if cell.decided] == ["sinet"]
    monkeypatch.setattr(support, "decide", decide)
    run_matrix(tmp_path, *ASKED)
    assert len(process) == 2


def test_a_precision_the_target_has_not_costs_no_process(process: list[list[str]]) -> None:
    target = next((t for t in TARGETS.values() if set(t.precisions) != set(TOLERANCE)), None)
    if target is None:
        pytest.skip("every target has every precision")
    precision = min(set(TOLERANCE) - set(target.precisions))
    cell = decide(Cell("sinet", target.name, precision))
    assert cell.status == "blocked" and "only" in cell.reason and not process


def test_what_is_not_installed_was_not_run(process: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.export.targets.target.find_spec", lambda name: None)
    cell = decide(Cell("sinet", "tflite", "fp32"))
    assert not cell.decided and "lightseg[tflite]" in cell.reason and not process


INT8 = {
    "int8_layers": 40,
    "float_layers": ["conv_3", "conv_7"],
    "int8_macs": 0.75,
    "task_loss": {
        "metric": "person IoU",
        "against": "labels",
        "float32": 96.0,
        "int8": 95.75,
        "images": 9,
        "alike": 98.5,
    },
    "calibration": {"images": {"ranges": 30}, "sha256": {"ranges": ["f"] * 30}},
}


def test_int8_is_run_with_the_photographs_named(process: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("sinet", "onnx", "int8")
    missing = decide(cell)
    assert not missing.decided and "--calibration" in missing.reason and not process
    monkeypatch.setitem(RECORD, "quantization", INT8)
    done = decide(cell, ["--calibration", "photos"])
    assert process[0][-2:] == ["--calibration", "photos"]
    assert done.quantization and "sha256" not in str(done.quantization)
    page = markdown([done if c.key == done.key else c for c in all_cells()])
    assert "40 of 42 convolutions (75 % of their work) in int8, 0.25 points of person IoU lost against labels" in page
    assert "on 9 images, 98.50 against float32's own masks" in page
    decide(replace(cell, precision="fp32"), ["--calibration", "photos"])
    assert "photos" not in process[1]


def test_every_task_has_its_own_photographs(
    process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECORD, "quantization", INT8)
    words = ["--matrix", "--model", "sinet,c3netv2", "--to", "onnx", "--precision", "int8", "--out", str(tmp_path)]
    monkeypatch.setattr("lightseg.zoo.create_model", lambda name: None)
    monkeypatch.setattr("lightseg.export.quantization.calibration.gather", lambda *_: None)
    assert cli.main([*words, "--calibration", "portrait=a,street=b", "--evaluation", "street=c"]) == 0
    assert [command[command.index("--calibration") :] for command in process] == [
        ["--calibration", "a"],
        ["--calibration", "b", "--evaluation", "c"],
    ]
    process.clear()
    assert cli.main([*words, "--out", str(tmp_path / "other"), "--calibration", "portrait=a"]) == 0
    assert len(process) == 1 and "c3netv2" not in process[0]
    assert cli.main([*words, "--calibration", "streets=a"]) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--calibration", "portrait=portait"], "no folder portait; give --calibration"),
        (["--evaluation", "photos"], "--evaluation and --max-drop belong to int8: add --calibration DIR"),
    ],
)
def test_a_slip_of_the_pen_is_no_evidence(
    more: list[str], said: str, process: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--matrix", "--model", "sinet", "--to", "onnx", "--precision", "int8", "--out", str(tmp_path / "m")]
    assert cli.main([*words, *more]) == 1
    assert said in capsys.readouterr().err
    assert not process and not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [
        (1, "lightseg-export: why\n", "why"),
        (1, "Traceback\nRuntimeError: oh\n", "crashed, exit status 1: RuntimeError: oh"),
        (-9, "", "crashed, exit status -9"),
        (137, "Killed\n", "crashed, exit status 137: Killed"),
    ],
)
def test_a_crash_is_told_from_a_refusal(code: int, stderr: str, said: str) -> None:
    assert support._reason(subprocess.CompletedProcess([], code, "", stderr)).startswith(said)


DAMAGE = {
    "no JSON": "{",
    "a list": "[]",
    "no cells": '{"format": 1}',
    "another cell": '{"format": 1, "cells": [{"a": 1}]}',
    "another format": '{"format": 9, "cells": []}',
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_one_clear_line(damage: str, tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_text(DAMAGE[damage])
    with pytest.raises(BadInput, match="run again") as caught:
        read_cells(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_page_shows_every_cell_and_every_reason_once(tmp_path: Path) -> None:
    cells = all_cells()
    blocked = replace(cells[0], status="blocked", reason="because", code="c")
    page = markdown([blocked, replace(cells[1], status="blocked", reason="because", code="c"), *cells[2:]])
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(MODELS) * len(TOLERANCE) and page.count("because") == 1
    assert page.count("blocked (1)") == 2 and page.count("not run") == len(cells) - 2
    write_cells(tmp_path, cells)
    assert (tmp_path / TABLE).read_text(encoding="utf-8") == markdown(cells)


def test_words_about_code_do_not_decide() -> None:
    plain = "def f(x):\n    return '# no comment'\n"
    wordy = '"""Module."""\n\n# why\ndef f(x):  # what\n    """Doc\n    string."""\n    return \'# no comment\'\n'
    assert without_words(wordy) == without_words(plain) == plain.strip()
    assert without_words(plain.replace("no", "a")) != without_words(plain)


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], set[str]]:
    """``changed(module)``: the targets whose hash is another when the module's code is."""
    before = {target: code_hash(target) for target in TARGETS}
    code = deciders._code

    def targets(module: str) -> set[str]:
        monkeypatch.setattr(deciders, "_code", lambda name: code(name) + ("x" if name == module else ""))
        return {target for target in TARGETS if code_hash(target) != before[target]}

    return targets


DECIDES = {
    "lightseg.export.writers.tflite": {"tflite"},
    "lightseg.export.writers.onnx": {"onnx", "openvino", "tensorrt", "tensorrt_rtx"},
    "lightseg.export.targets.coreml": {"coreml"},
    "lightseg.export.mil.operations": {"coreml"},
    "lightseg.export.rewrites.fold_affine": set(TARGETS),
    "lightseg.export.graph.capture": set(TARGETS),
    "lightseg.export.parity": set(TARGETS),
    "lightseg.models.blocks": set(TARGETS),
    "lightseg.export.selftest": set(),
    "lightseg.export.cli": set(),
    "lightseg.export.bisection": set(),
    "lightseg.export.quantization.ranges": set(),
}


def test_a_rewrite_counts_where_it_is_applied(changed: Callable[[str], set[str]]) -> None:
    module = "lightseg.export.rewrites.pack_columns"
    users = {t.name for t in TARGETS.values() if any(rule.__module__ == module for rule in t.rewrites())}
    assert changed(module) == users and users < set(TARGETS)


def test_the_search_for_int8_decides_about_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    before, code = code_hash("onnx", "int8"), deciders._code
    monkeypatch.setattr(deciders, "_code", lambda m: code(m) + "x" * m.endswith("quantization.ranges"))
    assert code_hash("onnx", "int8") != before


@pytest.mark.parametrize("module", DECIDES)
def test_each_target_rests_on_its_own_modules(module: str, changed: Callable[[str], set[str]]) -> None:
    assert changed(module) == DECIDES[module]


def test_the_command_writes_both_files(
    process: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lightseg.zoo.create_model", lambda name: None)
    argv = ["--matrix", "--model", "sinet", "--to", "onnx", "--precision", "fp32", "--out", str(tmp_path)]
    assert cli.main(argv) == 0
    assert "1 validated" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {RESULTS, TABLE}


@pytest.mark.parametrize("argv", [["--model", "sinett"], ["--to", "onxx"], ["--precision", "fp23"]])
def test_unknown_words_are_one_line(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--matrix", *argv, "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "did you mean" in error and not list(tmp_path.iterdir())
