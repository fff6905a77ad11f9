"""Is A faster than B? Two processes take turns on the same cores, after the machine's own noise is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from lightseg.benchmarks.timing.latency import Boundary, Protocol
from lightseg.benchmarks.timing.measure import SAMPLED, open_child
from lightseg.benchmarks.timing.process import Child
from lightseg.benchmarks.timing.stats import Interval, ratio, ratio_interval
from lightseg.benchmarks.timing.subject import Subject

Answer = Literal["faster", "slower", "no difference shown", "INVALID"]
MakeChild = Callable[[int], AbstractContextManager[Child]]

PAIRS = 10
"""Pairs of neighbouring blocks, one of each side, in every restart."""


@dataclass(frozen=True)
class Pair:
    """Two neighbouring blocks' answers to ``sample``, as they came."""

    first: dict[str, Any]
    second: dict[str, Any]

    def ratio(self, boundary: Boundary) -> float:
        """The first's median over the second's."""
        key = SAMPLED[boundary]
        return float(median(self.first[key]) / median(self.second[key]))


@dataclass(frozen=True)
class Duel:
    """Two subjects that took turns, in several restarts."""

    first: Subject
    second: Subject
    restarts: tuple[tuple[Pair, ...], ...]

    def ratios(self, boundary: Boundary = "run") -> list[list[float]]:
        """First over second, pair by pair, restart by restart."""
        return [[pair.ratio(boundary) for pair in pairs] for pairs in self.restarts]

    def ratio(self, boundary: Boundary = "run") -> float:
        return ratio(self.ratios(boundary))

    def interval(self, boundary: Boundary = "run") -> Interval:
        return ratio_interval(self.ratios(boundary))

    @property
    def worst(self) -> float:
        """Largest relative error of an audited output on either side."""
        pairs = [pair for pairs in self.restarts for pair in pairs]
        return float(max(side["audit"]["worst"] for pair in pairs for side in (pair.first, pair.second)))

    def to_dict(self) -> dict[str, Any]:
        boundaries: tuple[Boundary, ...] = ("run", "run_cpu")
        return {
            "first": self.first.to_dict(),
            "second": self.second.to_dict(),
            "ratio": {b: self.ratio(b) for b in boundaries},
            "interval": {b: list(self.interval(b)) for b in boundaries},
            "worst_audit": self.worst,
            "restarts": [[vars(pair) for pair in pairs] for pairs in self.restarts],
        }


@dataclass(frozen=True)
class Comparison:
    """A against B, after B against itself."""

    noise: Duel
    duel: Duel
    tolerance: float

    @property
    def floor(self) -> float:
        """How far from 1 a ratio may lie here and now when nothing differs: the far end of the A/A interval."""
        return max(abs(end - 1) for end in self.noise.interval())

    @property
    def answer(self) -> Answer:
        """A claim only where the interval excludes 1 and the difference exceeds the noise floor."""
        if max(self.noise.worst, self.duel.worst) > self.tolerance:
            return "INVALID"
        low, high = self.duel.interval()
        if low <= 1 <= high or abs(self.duel.ratio() - 1) <= self.floor:
            return "no difference shown"
        return "faster" if self.duel.ratio() < 1 else "slower"

    def to_dict(self) -> dict[str, Any]:
        return {
            "answer": self.answer,
            "noise_floor": self.floor,
            "a_against_b": self.duel.to_dict(),
            "b_against_b": self.noise.to_dict(),
        }


def compare(
    first: Subject,
    second: Subject,
    protocol: Protocol,
    cores: Sequence[int],
    images: str | None = None,
    child: MakeChild = Child,
) -> Comparison:
    """``first`` against ``second``, both with one thread per core. Errors: `Failed`."""
    noise = duel(second, second, protocol, cores, images, child)
    return Comparison(noise, duel(first, second, protocol, cores, images, child), protocol.audit_tolerance)


def duel(
    first: Subject, second: Subject, protocol: Protocol, cores: Sequence[int], images: str | None, child: MakeChild
) -> Duel:
    """Fresh processes for both sides in every restart; within one, blocks in the order A B, B A, A B …"""
    restarts = []
    samples = max(5, protocol.samples // (PAIRS * protocol.restarts))
    for number in range(protocol.restarts):
        with child(len(cores)) as a, child(len(cores)) as b:
            sides = [(a, first), (b, second)]
            for side, subject in sides if number % 2 == 0 else sides[::-1]:  # starting first must not pay
                open_child(side, subject, protocol, cores, images)
                side.ask("warm_up")
            restarts.append(tuple(_pair(a, b, pair, samples) for pair in range(PAIRS)))
    return Duel(first, second, tuple(restarts))


def _pair(a: Child, b: Child, number: int, samples: int) -> Pair:
    """One block each; odd pairs begin with B."""

    def block(side: Child) -> dict[str, Any]:
        return side.ask("sample", samples=samples, seconds=0, seed=number)

    if number % 2 == 0:
        return Pair(block(a), block(b))
    later = block(b)
    return Pair(block(a), later)
