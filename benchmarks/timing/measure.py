"""One row: a subject measured in fresh processes, and what its number is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from lightseg.benchmarks.cuda.nvidia import slowed
from lightseg.benchmarks.timing.latency import Boundary, Latency, Protocol
from lightseg.benchmarks.timing.process import Asked, Child
from lightseg.benchmarks.timing.reuse import PAIRS, Judgement, judge, windows
from lightseg.benchmarks.timing.stats import Interval, median_interval
from lightseg.benchmarks.timing.subject import Subject

Verdict = Literal["PUBLISHABLE", "NOISY", "INVALID"]
MakeChild = Callable[[int], AbstractContextManager[Asked]]

SAMPLED: dict[Boundary, str] = {"run": "samples_ns", "run_cpu": "cpu_samples_ns", "device": "device_ns"}
"""Where an answer to ``sample`` holds the boundaries that are measured many times."""
APART: tuple[Boundary, ...] = ("transfer", "image_to_mask")
"""Boundaries with a pass of their own, named as the request for it."""
APART_SHARE = 0.3
"""How long such a pass takes, as a share of the time for sampling the run."""
MINIMUM_SHARE_OF_CPU = 0.95


@dataclass(frozen=True)
class Process:
    """What one measured process reported."""

    opened: dict[str, Any]
    goldens: dict[str, Any]
    """The golden outputs repeated; empty where the subject carries none."""
    warm_up: dict[str, Any]
    sampled: dict[str, Any]
    reuse: dict[str, Any]
    apart: dict[str, Any]
    """By boundary, what passes apart from the run have shown; ``reason`` says why there are no samples."""
    energy: dict[str, Any]
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
    memory: dict[str, Any] = field(default_factory=dict)
    """The answer of the process that did nothing else: largest resident bytes, and what they were before the model."""

    def latency(self, boundary: Boundary) -> Latency | None:
        """The samples of all processes, one after the other; None where the boundary was not measured."""
        samples: list[int] = []
        for process in self.processes:
            if boundary in SAMPLED:
                samples += process.sampled[SAMPLED[boundary]]
            elif boundary in APART:
                samples += process.apart[boundary]["samples_ns"]
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
        found = [reason for process in self.processes for reason in _invalid(process, self.protocol)]
        return list(dict.fromkeys(found + [self._reuse.invalid] * bool(self._reuse.invalid)))

    @cached_property
    def _reuse(self) -> Judgement:
        """Of the windows of all processes together."""
        return judge([process.reuse for process in self.processes])

    @property
    def noise(self) -> list[str]:
        """Why the number may not be repeatable."""
        found = [reason for process in self.processes for reason in _noise(process, self.threads)]
        spread, limit = self.run.spread, self.protocol.noisy
        if spread is None:
            found.append("too few samples for a 90th percentile")
        elif spread > limit:
            found.append(f"p90 lies {spread:.0%} above the median")
        if (dip := self.run.dip or 0.0) > limit:
            found.append(f"p10 lies {dip:.0%} below the median: it has two speeds")
        if max(self.medians) > min(self.medians) * (1 + limit):
            found.append(f"process medians differ by {max(self.medians) / min(self.medians) - 1:.0%}")
        found += [self._reuse.noise] * bool(self._reuse.noise)
        return list(dict.fromkeys(found))

    @property
    def apart(self) -> dict[str, str]:
        """By boundary that was not measured, why; and for energy."""
        first = self.processes[0]
        reasons: dict[str, str] = {boundary: first.apart[boundary]["reason"] for boundary in APART}
        reasons |= {"energy": first.energy["reason"], "memory": self.memory.get("reason", "")}
        return {name: reason for name, reason in reasons.items() if reason}

    def to_dict(self) -> dict[str, Any]:
        boundaries: tuple[Boundary, ...] = ("import_and_load", "load", "first", "run", "run_cpu", "device", *APART)
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
            "not_measured": self.apart,
            "memory": self.memory,
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
    return Row(subject, len(cores), tuple(cores), protocol, processes, _memory(subject, cores, images, child))


def _process(
    subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None, make: MakeChild, seed: int
) -> Process:
    seconds = protocol.seconds * APART_SHARE
    with make(len(cores)) as child:
        opened = open_child(child, subject, protocol, cores, images)
        goldens = _asked(child, "goldens") if subject.proof else {}
        warm_up = child.ask("warm_up")
        count = protocol.affordable(warm_up)
        sampled = child.ask("sample", samples=count, seconds=protocol.seconds, seed=seed, watch=True)
        load, stolen = sampled.pop("load_average", ()), sampled.pop("stolen_jiffies", None)
        reuse = windows(child.ask, min(PAIRS, count))
        apart = {name: _asked(child, name, seconds=seconds) for name in (*APART, "energy")}
        child.ask("close")
    energy = apart.pop("energy")
    return Process(opened, goldens, warm_up, sampled, reuse, dict(apart), energy, tuple(load), stolen)


def _asked(child: Asked, do: str, **arguments: Any) -> dict[str, Any]:
    """The answer, or without samples the reason, where what is measured cannot do that."""
    if do in getattr(child, "offers", ()):
        return child.ask(do, **arguments)
    return {"samples_ns": [], "reason": "not available: this device does not measure it"}


def _memory(subject: Subject, cores: Sequence[int], images: str | None, make: MakeChild) -> dict[str, Any]:
    with make(len(cores)) as child:
        what = {"subject": subject.to_dict(), "cores": list(cores), "threads": len(cores), "images": images}
        return _asked(child, "memory", **what)


def open_child(
    child: Asked, subject: Subject, protocol: Protocol, cores: Sequence[int], images: str | None
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


def _invalid(process: Process, protocol: Protocol) -> list[str]:
    audits = [process.sampled["audit"], process.reuse["audit"]]
    worst = max(audit["worst"] for audit in audits)
    found = [process.goldens["wrong"]] if process.goldens.get("wrong") else []
    if worst > protocol.audit_tolerance:
        found.append(f"timed outputs differ from the reference by {worst:.1e}")
    if audits[0]["checked"] == 0:
        found.append("no timed output was audited")
    if not audits[0]["distinct"]:
        found.append("different images gave the same output: the input is not read")
    return found


def _noise(process: Process, threads: int) -> list[str]:
    found = []
    if not process.warm_up["settled"]:
        found.append("warm-up never settled")
    cpu, wall = process.sampled["cpu_ns"], process.sampled["wall_ns"]
    waits = bool(process.sampled["device_ns"])  # for a device, which may let the core sleep
    share = 1.0 if cpu is None or waits else cpu / wall
    if threads == 1 and share < MINIMUM_SHARE_OF_CPU:
        found.append(f"another process held the core {1 - share:.0%} of the time")
    if process.stolen_jiffies:
        found.append("the hypervisor took time from the core")
    if why := slowed(process.sampled.get("device_states", ())):
        found.append(f"the GPU lowered its clock: {', '.join(why)}")
    return found
