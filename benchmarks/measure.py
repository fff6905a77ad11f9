"""One row: a subject measured in fresh processes, and what its number is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lightseg.benchmarks.environment import core_times, load_average
from lightseg.benchmarks.latency import Boundary, Latency, Protocol
from lightseg.benchmarks.process import Child
from lightseg.benchmarks.stats import Interval, median_interval
from lightseg.benchmarks.subject import Subject

Verdict = Literal["PUBLISHABLE", "NOISY", "INVALID"]
MakeChild = Callable[[int], AbstractContextManager[Child]]

REPEATED = 30
"""Runs of one image at the end, to see whether the runtime is faster when it has seen the image before."""
REUSE = 0.1
"""How much faster a repeated image may be."""
SAMPLED: dict[Boundary, str] = {"run": "samples_ns", "run_cpu": "cpu_samples_ns", "device": "device_ns"}
"""Where an answer to ``sample`` holds the boundaries that are measured many times."""
MINIMUM_SHARE_OF_CPU = 0.95


@dataclass(frozen=True)
class Process:
    """What one measured process reported."""

    opened: dict[str, Any]
    warm_up: dict[str, Any]
    sampled: dict[str, Any]
    repeated: dict[str, Any]
    closed: dict[str, Any]
    load_average: tuple[Any, Any]
    stolen_jiffies: int | None
    """Time the hypervisor took from the cores used while sampling."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Row:
    """A subject's measurement. ``processes`` keep everything; the properties are views."""

    subject: Subject
    threads: int
    cores: tuple[int, ...]
    protocol: Protocol
    processes: tuple[Process, ...]

    def latency(self, boundary: Boundary) -> Latency | None:
        """The samples of all processes, one after the other; None where the boundary was not measured."""
        samples: list[int] = []
        for process in self.processes:
            if boundary in SAMPLED:
                samples += process.sampled[SAMPLED[boundary]]
            else:
                samples.append(process.opened[f"{boundary}_ns"])
        return Latency(boundary, tuple(samples)) if samples else None

    @property
    def run(self) -> Latency:
        latency = self.latency("run")
        assert latency is not None
        return latency

    @property
    def details(self) -> dict[str, str]:
        """The provider, delegate and version that really ran, read back from the runtime."""
        return dict(self.processes[0].opened["details"])

    @property
    def medians(self) -> list[float]:
        """The steady-state median of every process, in nanoseconds."""
        return [Latency("run", tuple(p.sampled["samples_ns"])).median for p in self.processes]

    @cached_property
    def interval(self) -> Interval:
        """95 % block-bootstrap interval of the run's median, in nanoseconds."""
        return median_interval([p.sampled["samples_ns"] for p in self.processes])

    @property
    def verdict(self) -> Verdict:
        return "INVALID" if self.invalid else "NOISY" if self.noise else "PUBLISHABLE"

    @property
    def reasons(self) -> list[str]:
        return self.invalid + self.noise

    @property
    def invalid(self) -> list[str]:
        """Why the number is wrong, whatever the machine was doing."""
        return [reason for process in self.processes for reason in _invalid(process, self.protocol)]

    @property
    def noise(self) -> list[str]:
        """Why the number may not be repeatable."""
        found = [reason for process in self.processes for reason in _noise(process, self.threads)]
        spread, limit = self.run.spread, self.protocol.noisy
        if spread is None:
            found.append("too few samples for a 90th percentile")
        elif spread > limit:
            found.append(f"p90 lies {spread:.0%} above the median")
        if max(self.medians) > min(self.medians) * (1 + limit):
            found.append(f"process medians differ by {max(self.medians) / min(self.medians) - 1:.0%}")
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        boundaries: tuple[Boundary, ...] = ("import_and_load", "load", "first", "run", "run_cpu", "device")
        latencies = [latency for b in boundaries if (latency := self.latency(b)) is not None]
        return {
            "subject": self.subject.to_dict(),
            "threads": self.threads,
            "cores": list(self.cores),
            "details": self.details,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "summary": {latency.boundary: latency.summary() for latency in latencies},
            "run_p50_interval_ms": [end / 1e6 for end in self.interval],
            "protocol": self.protocol.to_dict(),
            "processes": [process.to_dict() for process in self.processes],
        }


def measure(
    subject: Subject,
    protocol: Protocol,
    cores: Sequence[int],
    images: str | None = None,
    child: MakeChild = Child,
) -> Row:
    """Time ``subject`` with one thread per core of ``cores``. Errors: `Failed`, with the subject's name."""
    processes = tuple(_process(subject, protocol, cores, images, child, seed) for seed in range(protocol.processes))
    return Row(subject, len(cores), tuple(cores), protocol, processes)


def _process(
    subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None, make: MakeChild, seed: int
) -> Process:
    with make(len(cores)) as child:
        opened = open_child(child, subject, protocol, cores, images)
        warm_up = child.ask("warm_up")
        load, stolen = load_average(), core_times()
        sampled = child.ask("sample", samples=protocol.samples, seconds=protocol.seconds, seed=seed)
        stolen_jiffies = _stolen(stolen, core_times(), cores)
        after = load_average()
        repeated = child.ask("sample", samples=min(REPEATED, protocol.samples), seconds=0, rotate=False)
        closed = child.ask("close")
    return Process(opened, warm_up, sampled, repeated, closed, (load, after), stolen_jiffies)


def open_child(
    child: Child, subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None
) -> dict[str, Any]:
    """The ``open`` request in full."""
    return child.ask(
        "open",
        subject=subject.to_dict(),
        protocol=protocol.to_dict(),
        cores=list(cores),
        threads=len(cores),
        images=images,
    )


def _stolen(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]], cores: Sequence[int]) -> int | None:
    if not all(core in before and core in after for core in cores):
        return None
    return sum(after[core][1] - before[core][1] for core in cores)


def _invalid(process: Process, protocol: Protocol) -> list[str]:
    found = []
    audit, repeated = process.sampled["audit"], process.repeated
    if audit["worst"] > protocol.audit_tolerance or repeated["audit"]["worst"] > protocol.audit_tolerance:
        found.append(
            f"timed outputs differ from the reference by {max(audit['worst'], repeated['audit']['worst']):.1e}"
        )
    if audit["checked"] == 0:
        found.append("no timed output was audited")
    if not audit["distinct"]:
        found.append("different images gave the same output: the input is not read")
    share = _repeated_share(process)
    if share < 1 - REUSE:
        found.append(f"a repeated image takes {share:.0%} of the time of changing ones: a result is reused")
    return found


def _repeated_share(process: Process) -> float:
    """Time for a repeated image over time for changing ones; the largest of four estimates.

    A reused result makes all of them small; other work on the machine does not.
    """
    pairs = [(process.repeated[key], process.sampled[key]) for key in ("samples_ns", "cpu_samples_ns")]
    return max(of(same) / of(changing) for same, changing in pairs for of in (_middle, min))


def _noise(process: Process, threads: int) -> list[str]:
    found = []
    if not process.warm_up["settled"]:
        found.append("warm-up never settled")
    share = process.sampled["cpu_ns"] / process.sampled["wall_ns"]
    if threads == 1 and share < MINIMUM_SHARE_OF_CPU:
        found.append(f"another process held the core {1 - share:.0%} of the time")
    if process.stolen_jiffies:
        found.append("the hypervisor took time from the core")
    return found


def _middle(samples: Sequence[int]) -> float:
    return Latency("run", tuple(samples)).median
