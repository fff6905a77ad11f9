"""The measured process: what it does around the timed call."""

from __future__ import annotations

import gc
import io
import json
import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightseg.benchmarks.timing import child as module
from lightseg.benchmarks.timing.child import Audit, Session, answer, relative_error, serve
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import measure
from lightseg.benchmarks.timing.subject import Subject

Array = NDArray[Any]


class FakeRunner:
    """Doubles its input; ``wrong_after`` runs it starts to add something."""

    name = "fake"

    def __init__(self, wrong_after: int = 10**9) -> None:
        self.details = {"runtime": "fake"}
        self.wrong_after, self.runs = wrong_after, 0
        self.fed: list[float] = []
        self.collected: list[bool] = []

    def feed(self, x: Array) -> None:
        self.x = x.copy()
        self.fed.append(float(x.flat[0]))

    def run(self) -> None:
        self.collected.append(gc.isenabled())
        self.runs += 1
        self.y = 2 * self.x + (0.01 if self.runs > self.wrong_after else 0)

    def fetch(self) -> Array:
        return self.y

    def __call__(self, x: Array) -> Array:
        self.feed(x)
        self.run()
        return self.fetch()


def opened(runner: FakeRunner, protocol: Protocol, count: int = 6) -> Session:
    session = Session()
    session.runner, session.protocol, session.cores = runner, protocol, [0]
    session.inputs = [np.full((1, 1, 2, 2), i + 1, np.float32) for i in range(count)]
    session.references = [runner(x) for x in session.inputs[: module.REFERENCES]]
    return session


def test_sampling_rotates_counts_and_stops_the_collector() -> None:
    runner = FakeRunner()
    session = opened(runner, Protocol())
    runner.fed.clear()
    runner.collected.clear()
    result = session.sample({"samples": 20, "seconds": 0.0})
    assert len(result["samples_ns"]) == len(result["cpu_samples_ns"]) == 20
    assert runner.fed == [float(i % 6 + 1) for i in range(20)]
    assert not any(runner.collected)
    assert gc.isenabled()
    assert result["device_ns"] == []
    assert result["wall_ns"] >= sum(result["samples_ns"])


def test_sampling_goes_on_until_the_time_is_reached_too() -> None:
    result = opened(FakeRunner(), Protocol()).sample({"samples": 1, "seconds": 0.02})
    assert len(result["samples_ns"]) > 1
    assert result["wall_ns"] >= 20_000_000


def test_one_image_can_be_repeated() -> None:
    runner = FakeRunner()
    session = opened(runner, Protocol())
    runner.fed.clear()
    session.sample({"samples": 8, "seconds": 0, "rotate": False})
    assert set(runner.fed) == {1.0}


def test_the_audit_catches_outputs_that_change_while_timed() -> None:
    protocol = Protocol(audits=50)
    assert opened(FakeRunner(), protocol).sample({"samples": 60, "seconds": 0})["audit"]["worst"] == 0.0
    audit = opened(FakeRunner(wrong_after=30), protocol).sample({"samples": 60, "seconds": 0})["audit"]
    assert audit["checked"] > 10
    assert audit["worst"] > protocol.audit_tolerance


def test_the_audit_sees_an_input_that_is_not_read() -> None:
    import random

    same = [np.ones(3), np.ones(3)]
    assert Audit(same, random.Random(0), 1.0).result()["distinct"] is False
    assert Audit([np.ones(3), np.zeros(3)], random.Random(0), 1.0).result()["distinct"] is True


@pytest.mark.parametrize(
    ("value", "error"), [([1.0, 2.0], 0.0), ([1.0, 2.2], 0.1), ([1.0, np.nan], np.inf), ([np.inf, 2.0], np.inf)]
)
def test_relative_error(value: list[float], error: float) -> None:
    assert relative_error(np.array(value), np.array([1.0, 2.0])) == pytest.approx(error)
    assert relative_error(np.array([3], np.uint8), np.array([4], np.uint8)) == 0.25  # masks do not wrap around


def test_warm_up_settles_or_says_that_it_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    session = opened(FakeRunner(), Protocol(window_seconds=0.0, warmup_seconds=5.0))
    monkeypatch.setattr(session, "_timed", lambda step: 1000)
    assert session.warm_up({}) == {"settled": True, "runs": 15, "window_medians_ns": [1000.0] * 3}
    session.protocol = Protocol(window_seconds=0.0, warmup_seconds=0.01)
    monkeypatch.setattr(session, "_timed", lambda step: 1000 + step // 5 % 2 * 1000)
    result = session.warm_up({})
    assert result["settled"] is False
    assert result["window_medians_ns"]


@pytest.mark.parametrize("request_", ["no json", '{"do": "fly"}', '{"do": "close", "do": "sample"}'])
def test_a_bad_request_is_answered_in_one_line(request_: str) -> None:
    error = answer(Session(), request_)["error"]
    assert error and "\n" not in error


def test_serve_answers_line_by_line() -> None:
    out = io.StringIO()
    serve(io.StringIO('{"do": "describe", "cores": [0]}\n{"do": "fly"}\n'), out)
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert first["environment"]["affinity"] == [0]
    assert "error" in second


def test_a_real_row() -> None:
    """A fresh process, pinned, with PyTorch and the real network at a small size."""
    core = sorted(os.sched_getaffinity(0))[-1]
    subject = Subject("sinet-random", "PyTorch eager", (1, 3, 32, 64), None, model="sinet", weights="random")
    protocol = Protocol(samples=8, seconds=0, processes=1, warmup_seconds=0.2, window_seconds=0.01, inputs=5)
    row = measure(subject, protocol, [core])
    (process,) = row.processes
    assert process.opened["affinity"] == [core]
    assert process.opened["output_shape"] == [1, 2, 32, 64]
    assert process.opened["inputs"] == 5
    assert row.details["runtime"] == "torch"
    assert row.run.count == 8
    assert process.sampled["audit"] == {**process.sampled["audit"], "worst": 0.0, "distinct": True}
    assert process.sampled["audit"]["checked"] > 0
    assert process.opened["import_and_load_ns"] > process.opened["load_ns"] > 0
    assert row.memory["peak_memory_bytes"] >= row.memory["before_model_bytes"] > 0
    assert process.apart["image_to_mask"]["reason"].startswith("not applicable: what another network's")
