"""Two results compared: a change is claimed only beyond the noise, and the ceilings that a page draws."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightseg.benchmarks import cli
from lightseg.benchmarks.ceilings import Ceilings, measure_ceilings
from lightseg.benchmarks.results.changes import compare_files
from lightseg.benchmarks.results.report import Report
from lightseg.benchmarks.timing.measure import Row
from lightseg.errors import BadInput

Capture = pytest.CaptureFixture[str]
Result = dict[str, Any]
ENVIRONMENT = {"cpu": "A", "flags": ["avx2"], "versions": {"torch": "2.13.0", "onnx": "1.23.2"}, "load_average": [0.1]}


@pytest.fixture
def result(measured: Callable[..., Row], answers: dict[str, dict[str, Any]]) -> Result:
    answers["sample"]["samples_ns"] = answers["sample"]["samples_ns"][:80]  # a bootstrap of few samples is quick
    data: Result = json.loads(json.dumps(Report([0], ENVIRONMENT, [], [measured()]).to_dict()))
    return data


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def save(*results: Result) -> tuple[Path, Path]:
        paths = tmp_path / "old.json", tmp_path / "new.json"
        for path, result in zip(paths, results):
            path.write_text(json.dumps(result))
        return paths

    return save


def slowed(result: Result, factor: float) -> Result:
    """The same row with all its times multiplied."""
    other = copy.deepcopy(result)
    (row,) = other["rows"]
    for process in row["processes"]:
        process["sampled"]["samples_ns"] = [ns * factor for ns in process["sampled"]["samples_ns"]]
    row["run_p50_interval_ms"] = [end * factor for end in row["run_p50_interval_ms"]]
    row["summary"]["run"]["median_ms"] *= factor
    return other


@pytest.mark.parametrize(
    ("factor", "processes", "answer"),
    [
        (1.0, 1, "noise"),
        (1.08, 1, "noise"),  # one process: what a protocol lets pass between processes may be between these two
        (1.2, 1, "slower"),
        (0.8, 1, "faster"),
        (1.08, 3, "slower"),  # three processes that agree say how small the noise is
    ],
)
def test_a_change_is_more_than_noise(
    factor: float, processes: int, answer: str, result: Result, saved: Callable[..., tuple[Path, Path]]
) -> None:
    result["rows"][0]["processes"] *= processes
    (change,) = compare_files(*saved(result, slowed(result, factor))).changes
    assert change.answer == answer
    assert change.ratio == pytest.approx(factor)


def test_processes_that_disagree_are_the_noise(result: Result, saved: Callable[..., tuple[Path, Path]]) -> None:
    other = slowed(result, 1.3)
    result["rows"][0]["processes"] += other["rows"][0]["processes"]
    (change,) = compare_files(*saved(result, other)).changes
    assert change.noise == pytest.approx(0.3, abs=0.01)
    assert change.answer == "noise"


def test_a_noisy_row_decides_nothing(result: Result, saved: Callable[..., tuple[Path, Path]]) -> None:
    other = slowed(result, 2)
    other["rows"][0]["verdict"] = "NOISY"
    (change,) = compare_files(*saved(result, other)).changes
    assert (change.answer, change.why) == ("undecided", "NOISY after")


def test_rows_of_one_side_and_the_environment_are_named(
    result: Result, saved: Callable[..., tuple[Path, Path]], capsys: Capture
) -> None:
    other = copy.deepcopy(result)
    extra = copy.deepcopy(other["rows"][0])
    extra["subject"]["runtime"] = "onnx"
    other["rows"].append(extra)
    other["environment"] = {**ENVIRONMENT, "cpu": "B", "versions": {"torch": "2.13.0", "onnx": "1.24"}}
    old, new = saved(result, other)
    changes = compare_files(old, new)
    assert changes.environment == {"cpu": ("A", "B"), "onnx": ("1.23.2", "1.24")}
    assert changes.only_after == ("sinet-random, onnx, 1x3x64x64, 1 thread",)
    assert cli.main(["--compare", str(old), str(new), "--json", str(old.parent / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "environment: cpu was A, is B" in out and "only after: sinet-random, onnx" in out and "1 noise" in out
    assert json.loads((old.parent / "c.json").read_text())["changes"][0]["answer"] == "noise"


def test_files_of_one_network_keep_apart(result: Result, saved: Callable[..., tuple[Path, Path]]) -> None:
    (row,) = result["rows"]
    forms: list[Result] = [
        {"output": "logits"},
        {"output": "mask"},
        {"output": "mask", "preprocess": None},
        {"any_batch": True},
    ]
    file = {**row["subject"], "path": "/x/a.tflite", "preprocess": {}, "runtime": "onnx"}
    result["rows"] = [{**row, "subject": {**file, **form}} for form in forms]
    changes = compare_files(*saved(result, result))
    assert [change.name for change in changes.changes] == [
        f"sinet-random, onnx{form}, 1x3x64x64, 1 thread" for form in ("", ", mask", ", mask, baked", ", dynamic")
    ]
    assert (changes.only_before, changes.only_after) == ((), ())


def counts(**values: int) -> Result:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return {"kind": "counted", "artifacts": [{"name": "a.onnx", "counts": named, "missing": {}}]}


def test_counts_are_compared_exactly(saved: Callable[..., tuple[Path, Path]]) -> None:
    old = counts(macs=10, operators=5, operators__conv=5, instructions=1_000_000, partitions=1)
    new = counts(macs=9, operators=6, operators__pool=1, operators__conv=5, instructions=1_004_000)
    found = {change.what: change.answer for change in compare_files(*saved(old, new)).changes}
    assert found == {
        "macs": "fewer",
        "operators": "more",
        "operators.conv": "same",
        "operators.pool": "more",
        "instructions": "noise",
    }


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (counts(macs=1), {"kind": "emulated", "rows": []}, "compare two of one kind"),
        (counts(macs=1), {"kind": "counted", "artifacts": []}, "no row in common"),
        ({"scores": {}}, {"scores": {}}, "lightseg-evaluate"),
        ({"kind": "measured"}, {"kind": "measured"}, "not complete"),
    ],
)
def test_results_that_cannot_be_compared(
    old: Result, new: Result, says: str, saved: Callable[..., tuple[Path, Path]]
) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        compare_files(*saved(old, new))
    assert len(str(caught.value).splitlines()) == 1


def test_ceilings_are_the_best_of_many_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightseg.benchmarks.ceilings.SECONDS", 0.01)
    monkeypatch.setattr("lightseg.benchmarks.ceilings.SIDE", 64)
    monkeypatch.setattr("lightseg.benchmarks.ceilings.COPIED", 1 << 16)
    monkeypatch.setattr("lightseg.benchmarks.ceilings.pin", lambda cores: cores)
    found = Ceilings().requests["ceilings"]({"cores": [0]})
    assert 1e7 < found["macs_per_second"] < 1e13
    assert 1e7 < found["bytes_per_second"] < 1e13
    assert np.isfinite(found["macs_per_second"])


def test_ceilings_are_measured_on_the_first_core() -> None:
    asked: list[Any] = []

    class Fake:
        def __init__(self, threads: int, command: Any) -> None:
            asked.append((threads, command[-1]))

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def ask(self, do: str, **arguments: Any) -> Result:
            asked.append((do, arguments))
            return {"macs_per_second": 1.0}

    assert measure_ceilings([3, 4], Fake) == {"macs_per_second": 1.0}  # type: ignore[arg-type]
    assert asked == [(1, "lightseg.benchmarks.ceilings"), ("ceilings", {"cores": [3], "device": "cpu"})]
