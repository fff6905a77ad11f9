"""The audit for reused results, by simulated clocks: what it must catch and whom it must not accuse."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from lightseg.benchmarks.timing.reuse import PAIRS, Judgement, judge, median_interval, windows

MS = 1_000_000


class Machine:
    """Answers to ``sample`` by a clock of its own. ``reuses`` is the share of the time a known image takes.

    ``bursts``: now and then somebody else takes the core, for up to ten times as long as a run.
    """

    def __init__(self, seed: int, reuses: float = 1.0, bursts: float = 0.0, drift: float = 0.0) -> None:
        self.random, self.reuses, self.bursts, self.drift = random.Random(seed), reuses, bursts, drift
        self.last, self.level = -1, 1.0

    def ask(self, do: str, samples: int, seconds: float, seed: int, rotate: bool) -> dict[str, Any]:
        wall, cpu = [], []
        for step in range(samples):
            image = (seed * samples + step) % 32 if rotate else 0
            share = self.reuses if image == self.last else 1.0
            self.last = image
            self.level *= 1 + self.drift * self.random.uniform(-1, 1)
            busy = 10 * MS * share * self.level * self.random.uniform(0.98, 1.05)
            stolen = 10 * MS * self.random.uniform(0, 10) if self.random.random() < self.bursts else 0
            wall.append(int(busy + stolen))
            cpu.append(int(busy * (1 + (0.1 * self.random.random() if stolen else 0))))
        return {"samples_ns": wall, "cpu_samples_ns": cpu, "audit": {"checked": samples, "worst": 0.0}}


def judged(machine: Callable[[int], Machine], seed: int, processes: int = 1) -> Judgement:
    return judge([windows(machine(seed * 10 + number).ask, PAIRS) for number in range(processes)])


def test_windows_take_turns() -> None:
    order: list[bool] = []

    def ask(do: str, rotate: bool, **_: Any) -> dict[str, Any]:
        order.append(rotate)
        return {"samples_ns": [1], "cpu_samples_ns": [1], "audit": {"checked": 1, "worst": 0.0}}

    found = windows(ask, 4)
    assert order == [True, False, False, True, True, False, False, True]
    assert found["repeated_ns"] == found["changing_cpu_ns"] == [[1]] * 4
    assert found["audit"] == {"checked": 8, "worst": 0.0}


@pytest.mark.parametrize("bursts", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("drift", [0.0, 0.15])
def test_an_honest_runtime_is_never_accused(bursts: float, drift: float) -> None:
    found = [judged(lambda seed: Machine(seed, bursts=bursts, drift=drift), seed) for seed in range(100)]
    assert not any(one.invalid for one in found)
    if not drift:
        assert sum(not one.noise for one in found) > 90


@pytest.mark.parametrize(("reuses", "bursts"), [(0.01, 0.0), (0.5, 0.0), (0.8, 0.0), (0.01, 0.3), (0.5, 0.3)])
def test_a_runtime_that_keeps_results_is_never_cleared(reuses: float, bursts: float) -> None:
    found = [judged(lambda seed: Machine(seed, reuses, bursts), seed, processes=3) for seed in range(100)]
    assert not any(one == Judgement() for one in found)
    assert sum(bool(one.invalid) for one in found) >= (100 if not bursts else 50)


def test_what_cannot_be_told_is_noise_with_the_interval() -> None:
    steady = [[10 * MS] * 3] * 10
    wavering = [[(7 if i % 2 else 12) * MS] * 3 for i in range(10)]
    told = judge([{"changing_ns": steady, "repeated_ns": wavering, "changing_cpu_ns": [], "repeated_cpu_ns": []}])
    assert not told.invalid
    assert told.noise.endswith("70% to 120%: too noisy to tell whether a result is reused")


def test_processor_time_clears_a_row_whose_wall_clock_wavers() -> None:
    steady = [[10 * MS] * 3] * 10
    wavering = [[(7 if i % 2 else 12) * MS] * 3 for i in range(10)]
    clocks = {"changing_ns": steady, "repeated_ns": wavering, "changing_cpu_ns": steady, "repeated_cpu_ns": steady}
    assert judge([clocks]) == Judgement()


def test_few_windows_decide_nothing() -> None:
    fast, slow = [[1 * MS] * 3] * 5, [[10 * MS] * 3] * 5
    few = {"changing_ns": slow, "repeated_ns": fast, "changing_cpu_ns": slow, "repeated_cpu_ns": fast}
    assert judge([few]).noise.startswith("too few runs")
    assert judge([few, few]).invalid


@pytest.mark.parametrize(("count", "ends"), [(5, None), (6, (0, 5)), (10, (1, 8)), (30, (9, 20))])
def test_the_interval_of_a_median(count: int, ends: tuple[int, int] | None) -> None:
    """As printed in tables of distribution-free intervals for 95 %."""
    assert median_interval(list(range(count))) == ends
