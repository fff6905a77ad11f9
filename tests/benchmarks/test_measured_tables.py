"""The page of latencies: from one result, kinds apart, and never older than its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import readme_cli
from lightseg.benchmarks.measured_tables import DATA, PAGE, latency_table, page, plain_table, reduced
from lightseg.benchmarks.results.report import Report
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import BadInput

DOCS = Path(__file__).resolve().parents[2] / "docs"
EAGER = Subject("sinet-lightseg", "PyTorch eager", (1, 3, 224, 224), None)
FILE = replace(EAGER, runtime="tflite", path="/x/a.tflite")
PEER = replace(FILE, label="MediaPipe Selfie", runtime="tflite (peer)", shape=(1, 3, 256, 256))


@pytest.fixture
def result(measured: Callable[..., Row], answers: dict[str, dict[str, Any]], tmp_path: Path) -> Path:
    answers["sample"]["samples_ns"] = answers["sample"]["samples_ns"][:80]
    rows = [measured(subject=subject) for subject in (EAGER, FILE, PEER)]
    answers["warm_up"] = {**answers["warm_up"], "settled": False}
    rows.append(replace(measured(subject=FILE), threads=2))
    environment = {"cpu": "X", "virtual_machine": True, "system": "S", "versions": {"torch": "2"}, "commit": "c"}
    report = Report([0], {**environment, "time": "now"}, ["--quick"], rows, {"b.onnx": "it died"})
    report.save(tmp_path / "r.json")
    return tmp_path / "r.json"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_a_row_a_network_and_a_column_a_runtime(result: Path) -> None:
    head, _, *rows = latency_table(reduced(result), 1)
    assert _cells(head) == ["network", "input", "PyTorch eager", "tflite"]
    ours, peer = map(_cells, rows)
    assert ours[0] == "sinet-lightseg" and not ours[3].startswith("*")
    assert peer[:3] == ["MediaPipe Selfie", "256×256", "—"] and peer[3] != "—"
    *_, only = map(_cells, latency_table(reduced(result), 2))
    assert only[:3] == ["sinet-lightseg", "224×224", "—"] and only[3].startswith("*1 ±")


def _timed(network: str, p50: float, verdict: str = "PUBLISHABLE", threads: int = 1) -> dict[str, Any]:
    row = {"network": network, "runtime": "onnx", "shape": [1, 3, 8, 8], "threads": threads, "cpu": p50, "note": ""}
    return row | {"p50": p50, "interval": [p50 - 1, p50 + 1], "verdict": verdict, "reasons": []}


def test_before_over_after_between_opposite_ends_of_the_intervals() -> None:
    rows = [_timed("a", 10), _timed("a-plain", 20), _timed("b", 10), _timed("b-plain", 15, "NOISY"), _timed("c", 9)]
    head, _, first, second = map(_cells, plain_table({"rows": [*rows, _timed("a", 9, threads=2)]}))
    assert head == ["network", "onnx, 1 thread"]
    assert first == ["a", "2.00 [1.73, 2.33]"] and second == ["b", "*1.50 [1.27, 1.78]*"]
    assert plain_table({"rows": [_timed("a", 10), _timed("b-plain", 10)]}) == []


def test_the_page_says_where_and_keeps_kinds_apart(result: Path) -> None:
    text = page(reduced(result))
    measured, cited = text.split("## Cited")
    assert "X (virtual machine)" in measured and "`lightseg-bench --quick`" in measured
    assert "NOISY (1 of 4 rows)" in measured and "warm-up never settled (1)" in measured and "### 2 threads" in measured
    assert "b.onnx has no number: it died" in measured
    assert "Qualcomm" in cited and "Qualcomm" not in measured and "| ms, cited |" in cited


def test_every_run_that_gave_rows_is_named(result: Path) -> None:
    data = json.loads(result.read_text())
    runs = [{**data["environment"], "time": time, "commit": commit} for time, commit in (("later", "d"), ("last", "e"))]
    result.write_text(json.dumps({**data, "resumed": runs}))
    assert "; now, commit c; resumed: later, commit d; last, commit e. With torch 2." in page(reduced(result))


def test_the_command_writes_both_files(result: Path, tmp_path: Path) -> None:
    assert readme_cli.main(["--latency", str(result), "--out", str(tmp_path / "docs")]) == 0
    data = json.loads((tmp_path / "docs" / DATA).read_text())
    assert (tmp_path / "docs" / PAGE).read_text() == page(data)
    assert "samples" not in json.dumps(data)


def test_other_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"kind": "counted", "artifacts": []}')
    with pytest.raises(BadInput, match="no timed rows"):
        reduced(tmp_path / "c.json")


def test_the_page_in_docs_is_that_of_its_data() -> None:
    if not (DOCS / DATA).exists():
        pytest.skip(f"docs/{DATA} was not measured yet")
    assert (DOCS / PAGE).read_text(encoding="utf-8") == page(json.loads((DOCS / DATA).read_text(encoding="utf-8")))
