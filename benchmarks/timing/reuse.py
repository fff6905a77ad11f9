"""Whether a runtime is faster when it has seen an image before: the decision, from windows taken in turns.

A runtime that keeps the last result looks fast with one image and is not in use. Honest ones gain a few percent from
warm caches. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Any

PAIRS, RUNS = 10, 3
"""Pairs of windows in every process, one with changing images and one with a repeated one, and the runs in each."""
BOUND = 0.9
"""The least share of the time of changing images that a repeated one may take."""
Interval = tuple[float, float]
CLOCKS = {"ns": "samples_ns", "cpu_ns": "cpu_samples_ns"}
"""By the ending of a key here, the key of an answer to ``sample``."""


Ask = Callable[..., dict[str, Any]]


def windows(ask: Ask, pairs: int) -> dict[str, Any]:
    """Windows of `RUNS` runs in turns: changing images and one image, one and changing, changing and one …

    Whatever else the machine does falls on both alike, which windows far apart in time would not grant. One list of
    nanoseconds per window, of both clocks; the second's are empty where processor time cannot be read.
    """
    found: dict[str, Any] = {f"{name}_{clock}": [] for name in ("changing", "repeated") for clock in CLOCKS}
    audits = []
    for pair in range(pairs):
        for name in ("changing", "repeated") if pair % 2 == 0 else ("repeated", "changing"):
            window = ask("sample", samples=RUNS, seconds=0, seed=pair, rotate=name == "changing")
            for clock, key in CLOCKS.items():
                found[f"{name}_{clock}"].append(window[key])
            audits.append(window["audit"])
    return {**found, "audit": {"checked": sum(a["checked"] for a in audits), "worst": max(a["worst"] for a in audits)}}


@dataclass(frozen=True)
class Judgement:
    """Why the row is INVALID, or NOISY; both empty where the runtime is cleared."""

    invalid: str = ""
    noise: str = ""


def judge(processes: Sequence[Mapping[str, Any]]) -> Judgement:
    """From the `windows` of one or more processes.

    The share is the median over pairs of windows; its interval holds it with at least 95 %. A row is INVALID only where
    the whole interval lies below `BOUND` by both clocks (a result that is reused costs no processor time either), and
    cleared where it lies above by one of them. In between, nothing can be told.
    """
    clocks = [found for clock in CLOCKS if (found := shares(processes, clock))]
    intervals = [median_interval(clock) for clock in clocks]
    if any(interval is not None and interval[0] >= BOUND for interval in intervals):
        return Judgement()
    share = median(clocks[0])
    if all(interval is not None and interval[1] < BOUND for interval in intervals):
        return Judgement(invalid=f"a repeated image takes {share:.0%} of the time of changing ones: a result is reused")
    if intervals[0] is None:
        return Judgement(noise="too few runs to tell whether a result is reused")
    low, high = intervals[0]
    return Judgement(
        noise=f"a repeated image takes {share:.0%} of the time of changing ones, by the 95 % interval {low:.0%} to "
        f"{high:.0%}: too noisy to tell whether a result is reused"
    )


def shares(processes: Sequence[Mapping[str, Any]], clock: str) -> list[float]:
    """Of every pair of windows, the median with a repeated image over the median with changing ones."""
    pairs = [p for one in processes for p in zip(one[f"repeated_{clock}"], one[f"changing_{clock}"], strict=True)]
    return [median(same) / max(median(other), 1) for same, other in pairs if same and other]


def median_interval(values: Sequence[float]) -> Interval | None:
    """Two of the ordered values between which the true median lies with at least 95 %, whatever the distribution.

    None for fewer than six, which have no such two.
    """
    count, ordered = len(values), sorted(values)
    tail, outside = 0.0, 0
    while tail + comb(count, outside) / 2**count <= 0.025:
        tail += comb(count, outside) / 2**count
        outside += 1
    return None if outside == 0 else (ordered[outside - 1], ordered[count - outside])
