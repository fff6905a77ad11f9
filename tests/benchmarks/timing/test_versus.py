"""Comparisons: who takes turns with whom, and when a difference may be claimed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.subject import Subject
from lightseg.benchmarks.timing.versus import PAIRS, Comparison, compare

A = Subject("a", "x", (1, 3, 8, 8), None, path="a.x")
B = Subject("b", "x", (1, 3, 8, 8), None, path="b.x")
PROTOCOL = Protocol(samples=200, restarts=3)


class Clocked:
    """A child whose runs take ``times[label]`` nanoseconds, give or take ``noise``."""

    made = 0

    def __init__(self, times: dict[str, float], noise: float, worst: float, log: list[str]) -> None:
        self.times, self.worst, self.log = times, worst, log
        Clocked.made += 1
        self.random, self.noise = random.Random(Clocked.made), noise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "open":
            self.label = arguments["subject"]["label"]
        self.log.append(f"{do} {self.label}")
        taken = [
            int(self.times[self.label] * self.random.lognormvariate(0, self.noise))
            for _ in range(arguments.get("samples", 0))
        ]
        return {"samples_ns": taken, "cpu_samples_ns": taken, "audit": {"worst": self.worst}}

    def __enter__(self) -> Clocked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.log.append(f"end {self.label}")


@pytest.fixture
def race() -> Callable[..., tuple[Comparison, list[str]]]:
    def run(a: float, b: float, noise: float = 0.01, worst: float = 0.0) -> tuple[Comparison, list[str]]:
        log: list[str] = []
        Clocked.made = 0
        make = lambda threads: Clocked({"a": a, "b": b}, noise, worst, log)  # noqa: E731
        return compare(A, B, PROTOCOL, [0], None, make), log  # type: ignore[arg-type]

    return run


@pytest.mark.parametrize(
    ("a", "b", "noise", "answer"),
    [
        (1e6, 2e6, 0.01, "faster"),
        (2e6, 1e6, 0.01, "slower"),
        (1e6, 1e6, 0.01, "no difference shown"),
        (1.02e6, 1e6, 0.5, "no difference shown"),
        (1.2e6, 1e6, 0.02, "slower"),
    ],
)
def test_a_claim_needs_more_than_the_noise(
    race: Callable[..., tuple[Comparison, list[str]]], a: float, b: float, noise: float, answer: str
) -> None:
    comparison, _ = race(a, b, noise)
    assert comparison.answer == answer
    low, high = comparison.duel.interval()
    assert low <= comparison.duel.ratio() <= high


def test_a_small_but_certain_difference_below_the_noise_floor_is_no_claim(
    race: Callable[..., tuple[Comparison, list[str]]],
) -> None:
    quiet, _ = race(1.03e6, 1e6, 0.001)
    loud, _ = race(1e6, 1e6, 0.5)
    assert quiet.answer == "slower"
    assert Comparison(loud.noise, quiet.duel, 1e-5).answer == "no difference shown"


def test_a_wrong_output_makes_the_comparison_invalid(race: Callable[..., tuple[Comparison, list[str]]]) -> None:
    assert race(1e6, 2e6, worst=0.1)[0].answer == "INVALID"


def test_both_sides_take_turns_after_the_noise_is_known(race: Callable[..., tuple[Comparison, list[str]]]) -> None:
    comparison, log = race(1e6, 2e6)
    steps = 2 + 2 + 2 * PAIRS + 2
    assert len(log) == 2 * PROTOCOL.restarts * steps
    first = log[PROTOCOL.restarts * steps :][:steps]
    assert first[:8] == ["open a", "warm_up a", "open b", "warm_up b", "sample a", "sample b", "sample b", "sample a"]
    assert log[PROTOCOL.restarts * steps :][steps] == "open b"  # the next restart begins with the other
    assert set(log[: PROTOCOL.restarts * steps]) == {"open b", "warm_up b", "sample b", "end b"}
    assert len(comparison.duel.restarts) == 3


def test_everything_is_kept(race: Callable[..., tuple[Comparison, list[str]]]) -> None:
    data = json.loads(json.dumps(race(1e6, 2e6)[0].to_dict()))
    assert len(data["a_against_b"]["restarts"][2]) == PAIRS
    assert data["a_against_b"]["ratio"]["run"] == pytest.approx(0.5, rel=0.05)
    assert data["answer"] == "faster"
