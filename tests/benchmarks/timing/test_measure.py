"""The verdict of a row: what makes a number wrong, what makes it unrepeatable."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lightseg.benchmarks.results.resume import row_from_dict
from lightseg.benchmarks.timing import measure as module
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Row
from lightseg.benchmarks.timing.subject import Subject
from tests.benchmarks.conftest import SUBJECT, FakeChild

Answers = dict[str, dict[str, Any]]
Measured = Callable[..., Row]


def test_a_quiet_machine_and_an_honest_runtime(measured: Measured) -> None:
    row = measured()
    assert (row.verdict, row.reasons) == ("PUBLISHABLE", [])
    assert row.run.count == 400
    assert row.latency("load") is not None
    assert row.latency("device") is None


def test_processes_pool_their_samples_and_keep_their_own(measured: Measured) -> None:
    row = measured(Protocol(processes=3))
    assert row.run.count == 1200
    assert len(row.medians) == 3
    load = row.latency("load")
    assert load is not None and load.count == 3
    data = json.loads(json.dumps(row.to_dict()))
    assert [len(p["sampled"]["samples_ns"]) for p in data["processes"]] == [400] * 3
    assert set(data["summary"]) == {"import_and_load", "load", "first", "run", "run_cpu", "image_to_mask"}
    assert json.loads(json.dumps(row_from_dict(data).to_dict())) == data


@pytest.mark.parametrize(
    ("request_", "key", "value", "reason"),
    [
        ("sample", "audit", {"checked": 12, "worst": 1e-3, "distinct": True}, "differ from the reference by 1.0e-03"),
        ("sample", "audit", {"checked": 12, "worst": float("inf"), "distinct": True}, "differ from the reference"),
        ("repeat", "audit", {"checked": 9, "worst": 0.5, "distinct": True}, "differ from the reference"),
        ("sample", "audit", {"checked": 0, "worst": 0.0, "distinct": True}, "no timed output was audited"),
        ("sample", "audit", {"checked": 12, "worst": 0.0, "distinct": False}, "the input is not read"),
    ],
)
def test_invalid(measured: Measured, answers: Answers, request_: str, key: str, value: Any, reason: str) -> None:
    answers[request_][key] = value
    row = measured()
    assert row.verdict == "INVALID"
    assert reason in row.reasons[0]


@pytest.mark.parametrize(
    ("request_", "key", "value", "reason"),
    [
        ("warm_up", "settled", False, "warm-up never settled"),
        ("sample", "cpu_ns", 400_000_000, "another process held the core 20% of the time"),
        ("sample", "samples_ns", [1_000_000] * 300 + [1_300_000] * 100, "p90 lies 30% above the median"),
        ("sample", "samples_ns", [1_000_000] * 100 + [2_000_000] * 300, "p10 lies 50% below the median"),
        ("sample", "samples_ns", [1_000_000] * 30, "too few samples"),
    ],
)
def test_noisy(measured: Measured, answers: Answers, request_: str, key: str, value: Any, reason: str) -> None:
    answers[request_][key] = value
    row = measured()
    assert row.verdict == "NOISY"
    assert reason in row.reasons[0]


def test_stolen_time_is_noise(measured: Measured, answers: Answers) -> None:
    answers["sample"]["stolen_jiffies"] = 3
    assert "hypervisor" in measured().reasons[0]


def test_a_reused_result_is_noticed(measured: Measured, answers: Answers) -> None:
    answers["repeat"].update(samples_ns=[500_000] * 3, cpu_samples_ns=[490_000] * 3)
    row = measured()
    assert row.verdict == "INVALID"
    assert row.reasons == ["a repeated image takes 50% of the time of changing ones: a result is reused"]


def test_a_wrong_answer_is_invalid_however_fast_it_is(measured: Measured, answers: Answers) -> None:
    proven = replace(SUBJECT, proof=True)
    answers["goldens"] = {"wrong": "x.onnx does not repeat its golden output photo: largest error 3", "checked": []}
    assert measured(subject=SUBJECT).verdict == "PUBLISHABLE"  # carries no goldens: not asked for
    row = measured(Protocol(processes=2), proven)
    assert (row.verdict, row.reasons) == ("INVALID", [answers["goldens"]["wrong"]])
    answers["goldens"] = {"wrong": "", "checked": [{"probe": "photo"}]}
    assert measured(subject=proven).verdict == "PUBLISHABLE"


def test_what_was_not_measured_says_why(measured: Measured) -> None:
    row = measured()
    assert set(row.apart) == {"transfer", "energy"}
    assert row.apart["energy"] == "not available: no counter"
    assert row.memory["peak_memory_bytes"] == 70_000_000
    latency = row.latency("image_to_mask")
    assert latency is not None and latency.count == 9


def test_a_device_that_does_less_is_asked_for_less(answers: Answers) -> None:
    """A page in a browser opens, warms up and samples; nothing else is asked of it."""

    class Page(FakeChild):
        offers = ()  # type: ignore[assignment]

    child = Page(answers)
    row = module.measure(replace(SUBJECT, proof=True), Protocol(processes=1), [0], None, lambda threads: child)
    assert {request["do"] for request in child.requests} == {"open", "warm_up", "sample", "close"}
    assert set(row.apart) == {"transfer", "image_to_mask", "energy", "memory"}
    assert row.verdict == "PUBLISHABLE"


def test_processes_that_disagree(measured: Measured, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    row = measured(Protocol(processes=2))
    slower = {**row.processes[1].sampled, "samples_ns": [1_500_000] * 400}
    second = module.Process(**{**vars(row.processes[1]), "sampled": slower})
    both = module.Row(row.subject, row.threads, row.cores, row.protocol, (row.processes[0], second))
    assert any("process medians differ by 50%" in reason for reason in both.reasons)


def on_a_gpu(answers: dict[str, dict[str, Any]], throttling: list[str]) -> Subject:
    """A row of 8 images whose device takes half of the call, beside a sleeping processor."""
    answers["sample"] |= {
        "device_ns": [500_000] * 400,
        "cpu_ns": 100_000_000,
        "device_states": [{"throttling": ["idle"]}, {"throttling": throttling}],
    }
    answers["transfer"] = {"samples_ns": [90_000] * 9, "there_ns": [30_000] * 9, "back_ns": [20_000] * 9, "reason": ""}
    answers["open"]["details"] |= {"fallback nodes": "2 (2 Shape)"}
    return Subject("a", "onnx + CUDA graph", (8, 3, 64, 64), None, path="/x/a.onnx", device="cuda")


@pytest.mark.parametrize(
    ("throttling", "noise"), [(["idle"], []), (["power cap"], ["the GPU lowered its clock: power cap"])]
)
def test_a_row_on_a_gpu(
    throttling: list[str], noise: list[str], answers: dict[str, dict[str, Any]], measured: Callable[..., Row]
) -> None:
    row = measured(subject=on_a_gpu(answers, throttling))
    assert row.noise == noise
    device = row.latency("device")
    assert device is not None and device.median == 500_000


def test_the_table_of_a_gpu(answers: dict[str, dict[str, Any]], measured: Callable[..., Row]) -> None:
    from rich.console import Console

    from lightseg.benchmarks.results.tables import latency_table, notes

    row = measured(subject=on_a_gpu(answers, []))
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(latency_table([row]))
    head, line = (text for text in console.export_text().splitlines() if "images/s" in text or "onnx" in text)
    assert "8x3x64x64" in line and "7,998" in line.split() and "0.5" in line.split()
    assert {"there", "back", "transfer"} <= set(head.split())
    assert {"0.03", "0.02", "0.09"} <= set(line.split())
    told = "\n".join(notes([row]))
    assert "two CUDA events" in told and "fell back to another provider: 2 (2 Shape)" in told
