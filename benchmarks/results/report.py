"""The result of one command: rows, the rows that failed, and the machine; written as it grows."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightseg.benchmarks.results.cited import CITED
from lightseg.benchmarks.results.resume import earlier, key
from lightseg.benchmarks.timing.environment import environment
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Row, measure
from lightseg.benchmarks.timing.process import Failed, Lost
from lightseg.benchmarks.timing.subject import Subject
from lightseg.benchmarks.timing.versus import Comparison, compare
from lightseg.files import atomic_path

FORMAT = 1


@dataclass
class Report:
    """Rows in the order they were measured. ``failed`` maps a row's name to the reason it has no number."""

    cores: Sequence[int]
    environment: dict[str, Any]
    command: list[str] = field(default_factory=lambda: sys.argv[1:])
    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    summaries: list[Any] = field(default_factory=list)
    """What another program told of rows we could not sample: `lightseg.benchmarks.remote.benchmark_model.Summary`."""
    ceilings: dict[str, Any] | None = None
    """What this machine can do at best, where that was measured."""
    costs: dict[str, dict[str, int]] = field(default_factory=dict)
    """MACs and bytes moved of every artifact, by file name, where they were counted."""
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Where the time or the work of every artifact goes, by file name."""
    samples: dict[str, Any] = field(default_factory=dict)
    """A photograph and what every row makes of it."""
    resumed: list[dict[str, Any]] = field(default_factory=list)
    """The environment of every further run that rows come from; ``environment`` is the first one's."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "measured",
            "command": self.command,
            "environment": self.environment,
            "rows": [row.to_dict() for row in self.rows],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "summaries": [summary.to_dict() for summary in self.summaries],
            "failed": self.failed,
            "ceilings": self.ceilings,
            "costs": self.costs,
            "layers": self.layers,
            "samples": self.samples,
            "cited": [one.to_dict() for one in CITED] if self.rows else [],
            "resumed": self.resumed,
        }

    def save(self, path: Path) -> None:
        """Write everything so far, atomically. Errors: `OutputError`."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), ensure_ascii=False) + "\n", encoding="utf-8")


def bench(
    subjects: Iterable[Subject],
    protocol: Protocol,
    core_sets: Sequence[Sequence[int]],
    images: str | None = None,
    save_to: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    one: Callable[..., Row] = measure,
) -> Report:
    """Measure ``subjects`` in turn, each on every set of cores; a row that fails is recorded and the others go on.

    With ``save_to`` the file is written anew after every row, so that an interruption keeps the finished ones; with
    ``resume`` its rows are taken over and not measured again, and those that nobody asks for now stay. ``facts`` are
    the environment where that is not this machine's; when the device is lost, the rows so far are the result.
    Errors: `BadInput` where rows cannot be resumed.
    """
    widest = max(core_sets, key=len)
    report = Report(widest, environment(widest) if facts is None else facts)
    done, runs = earlier(save_to, report.environment) if resume and save_to else ({}, [])
    if runs:
        report.environment, report.resumed = runs[0], [*runs[1:], report.environment]
    todo = [(subject, cores) for subject in subjects for cores in core_sets]
    waiting = dict(done)
    progress = Progress(sum(key(subject, cores, protocol) not in done for subject, cores in todo))
    for subject, cores in todo:
        name = subject.name + (f", {len(cores)} threads" if len(cores) > 1 else "")
        row = done.get(key(subject, cores, protocol))
        waiting.pop(key(subject, cores, protocol), None)
        if row is not None:
            report.rows.append(row)
            continue
        announce(f"measuring {name}{progress.step()}")
        try:
            report.rows.append(one(subject, protocol, cores, images))
        except Failed as error:
            left = progress.rows - progress.begun if isinstance(error, Lost) else 0
            report.failed[name] = str(error) + (f"; {left} more not measured" if left else "")
            if isinstance(error, Lost):
                break
        finally:
            if save_to is not None:
                replace(report, rows=[*report.rows, *waiting.values()]).save(save_to)
    report.rows += waiting.values()
    return report


class Progress:
    """Where a list of rows stands, and how long the rest may take if it goes on as it went so far."""

    def __init__(self, rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows, self.begun, self._clock = rows, 0, clock
        self._start = clock()

    def step(self) -> str:
        """What to say when the next row begins; nothing where there is only one."""
        self.begun += 1
        if self.rows == 1:
            return ""
        left = (self._clock() - self._start) / (self.begun - 1) * (self.rows - self.begun + 1) if self.begun > 1 else 0
        return f" ({self.begun} of {self.rows}{f', about {left / 60:.0f} min left' if left > 60 else ''})"


def against(
    pairs: Iterable[tuple[Subject, Subject]],
    protocol: Protocol,
    cores: Sequence[int],
    images: str | None = None,
    save_to: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
    one: Callable[..., Comparison] = compare,
) -> Report:
    """The first of every pair against the second, taking turns; failures and saving as in `bench`."""
    report = Report(cores, environment(cores))
    for subject, other in pairs:
        announce(f"comparing {subject.name} with {other.name}")
        try:
            report.comparisons.append(one(subject, other, protocol, cores, images))
        except Failed as error:
            report.failed[f"{subject.name} against {other.name}"] = str(error)
        if save_to is not None:
            report.save(save_to)
    return report


def costs_of(subjects: Iterable[Subject]) -> dict[str, dict[str, int]]:
    """MACs and bytes moved by counting, for the files whose format can be counted."""
    from lightseg.benchmarks.profile import COUNTED, count_file

    paths = [Path(subject.path) for subject in subjects if subject.path is not None]
    costs = {path.name: count_file(path) for path in paths if path.suffix in COUNTED}
    return {name: {"macs": cost.macs, "bytes_moved": cost.bytes_moved} for name, cost in costs.items()}
