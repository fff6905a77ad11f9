"""Budgets: what counts as a breach, what is kept when one is written, and the command around it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.counting import mode as counting_mode
from lightseg.benchmarks.counting.budget import Budget, read_budget
from lightseg.benchmarks.counting.counters import COUNTERS, Counters
from lightseg.errors import BadInput

Capture = pytest.CaptureFixture[str]
ONE = Counters(
    "a.tflite",
    {
        "params": 86910,
        "macs": 63_870_448,
        "operators": 162,
        "operators.conv": 40,
        "layout": 0,
        "casts": 0,
        "partitions": 1,
        "artifact_bytes": 367_000,
        "peak_tensor_bytes": 2_000_000,
        "instructions": 40_000_000,
    },
    details={"runtime": "ai-edge-litert", "version": "2.3.0", "counter": "valgrind-3.19.0"},
)


def changed(**counts: int) -> Counters:
    return replace(ONE, counts=ONE.counts | {name.replace("__", "."): value for name, value in counts.items()})


BUDGET = Budget().with_counts([ONE])


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (changed(params=86911), "a.tflite: params rose from 86,910 to 86,911 (+0.0%)"),
        (changed(partitions=2), "a.tflite: partitions rose from 1 to 2 (+100.0%)"),
        (changed(layout=3), "a.tflite: layout rose from 0 to 3"),
        (changed(operators__cast=1), "a.tflite: operators.cast rose from 0 to 1"),
        (changed(instructions=40_200_001), "a.tflite: instructions rose from 40,000,000 to 40,200,001 (+0.5%)"),
        (replace(ONE, name="b.tflite"), "b.tflite is not in the budget; add it with --write-budget"),
        (
            replace(changed(instructions=50_000_000), details=ONE.details | {"version": "2.4.0"}),
            "to 50,000,000 (+25.0%); the budget was written with 2.3.0, now 2.4.0",
        ),
    ],
)
def test_one_line_for_what_rose(now: Counters, says: str) -> None:
    (line,) = BUDGET.breaches([now])
    assert says in line


@pytest.mark.parametrize(
    "now", [ONE, changed(params=1), changed(operators__conv=39), changed(instructions=40_200_000)], ids=str
)
def test_what_fell_or_moved_within_the_slack_is_no_breach(now: Counters) -> None:
    assert BUDGET.breaches([now]) == []


def test_every_counter_is_watched() -> None:
    for name in ONE.counts:
        (line,) = BUDGET.breaches([changed(**{name: ONE.counts[name] * 2 + 1})])
        assert f"{name} rose" in line
    assert {name.split(".")[0] for name in ONE.counts} == set(COUNTERS) - {"instructions_arm64"}


def test_a_counter_that_cannot_be_read_is_a_breach_and_not_a_pass() -> None:
    counts = {name: value for name, value in ONE.counts.items() if name != "instructions"}
    blind = replace(ONE, counts=counts, missing={"instructions": "not available: install valgrind"})
    (line,) = BUDGET.breaches([blind])
    assert line.endswith("cannot be held against the budget's 40,000,000: not available: install valgrind")
    assert BUDGET.with_counts([blind]).artifacts["a.tflite"]["counts"]["instructions"] == 40_000_000


def test_counters_of_another_device_are_named_as_unchecked() -> None:
    both = BUDGET.with_counts([changed(instructions_arm64=45_000_000)])
    assert both.breaches([ONE]) == []
    assert both.unchecked([ONE]) == ["instructions_arm64"]
    assert both.unchecked([changed(instructions_arm64=1)]) == []


def test_writing_keeps_other_artifacts_and_the_slack(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    mine = Budget({"b.onnx": {"counts": {"params": 1}}}, {"instructions": 0.02})
    mine.with_counts([ONE]).save(path)
    again = read_budget(path)
    assert list(again.artifacts) == ["a.tflite", "b.onnx"]
    assert again.slack == {"instructions": 0.02}
    assert again.breaches([changed(instructions=40_790_000)]) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no budget .*; make one with --write-budget"),
        ("{", "not a readable budget"),
        ("[]", "not a readable budget"),
        ('{"kind": "budget", "format": 1, "artifacts": {"a": {}}}', "not a readable budget"),
        ('{"kind": "budget", "format": 2, "artifacts": {}}', "not a budget of format 1"),
        ('{"kind": "budget", "format": 1, "artifacts": {"a": {"counts": {"params": 1.5}}}}', "with whole numbers"),
        (
            '{"kind": "budget", "format": 1, "artifacts": {"a": {"counts": {"milliseconds": 4}}}}',
            "no counter is called",
        ),
    ],
)
def test_a_budget_that_cannot_be_used(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=says) as caught:
        read_budget(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Counters]:
    """What the command counts; a test changes it."""
    now = {"a": ONE}
    monkeypatch.setattr(counting_mode, "count_all", lambda paths, announce, **how: [now["a"]] * len(paths))
    return now


def test_the_command_writes_keeps_and_breaks_a_budget(
    counts: dict[str, Counters], tmp_path: Path, capsys: Capture
) -> None:
    budget, result = tmp_path / "budget.json", tmp_path / "r.json"
    assert cli.main(["a.tflite", "--write-budget", str(budget)]) == 0
    written: dict[str, Any] = json.loads(budget.read_text())
    assert written["artifacts"]["a.tflite"]["counts"] == ONE.counts
    assert cli.main(["a.tflite", "--budget", str(budget)]) == 0
    capsys.readouterr()
    counts["a"] = changed(operators=170, operators__conv=48)
    assert cli.main(["a.tflite", "--budget", str(budget), "--json", str(result)]) == 1
    out, error = capsys.readouterr()
    assert error.splitlines() == [
        "lightseg-bench: over budget: a.tflite: operators rose from 162 to 170 (+4.9%)",
        "lightseg-bench: over budget: a.tflite: operators.conv rose from 40 to 48 (+20.0%)",
    ]
    assert "48" in out and "delegate partitions" in out
    assert json.loads(result.read_text())["artifacts"][0]["counts"]["operators"] == 170
    assert json.loads(budget.read_text()) == written


@pytest.mark.parametrize(
    "argv",
    [
        ["--model", "sinet", "--counters"],
        ["a.tflite", "--counters", "--threads", "2"],
        ["a.tflite", "--budget", "b.json", "--against", "c.tflite"],
        ["a.tflite", "--setup"],
    ],
)
def test_options_that_do_not_go_together(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_missing_budget_is_said_before_anything_is_counted(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(counting_mode, "count_all", lambda *_, **__: pytest.fail("counted"))
    assert cli.main(["a.tflite", "--budget", "absent.json"]) == 1
    assert "no budget absent.json" in capsys.readouterr().err
