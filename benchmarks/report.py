"""The result of one command: rows, the rows that failed, and the machine; written as it grows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightseg.benchmarks.environment import environment
from lightseg.benchmarks.latency import Protocol
from lightseg.benchmarks.measure import Row, measure
from lightseg.benchmarks.process import Failed
from lightseg.benchmarks.subject import Subject
from lightseg.benchmarks.versus import Comparison, compare
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
    ceilings: dict[str, Any] | None = None
    """What this machine can do at best, where that was measured."""
    costs: dict[str, dict[str, int]] = field(default_factory=dict)
    """MACs and bytes moved of every artifact, by file name, where they were counted."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "measured",
            "command": self.command,
            "environment": self.environment,
            "rows": [row.to_dict() for row in self.rows],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "failed": self.failed,
            "ceilings": self.ceilings,
            "costs": self.costs,
        }

    def save(self, path: Path) -> None:
        """Write everything so far, atomically. Errors: `OutputError`."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), ensure_ascii=False) + "\n", encoding="utf-8")


def bench(
    subjects: Iterable[Subject],
    protocol: Protocol,
    cores: Sequence[int],
    images: str | None = None,
    save_to: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
    one: Callable[..., Row] = measure,
) -> Report:
    """Measure ``subjects`` in turn; a row that fails is recorded and the others go on.

    With ``save_to`` the file is written anew after every row, so that an interruption keeps the finished ones.
    """
    report = Report(cores, environment(cores))
    for subject in subjects:
        announce(f"measuring {subject.name}")
        try:
            report.rows.append(one(subject, protocol, cores, images))
        except Failed as error:
            report.failed[subject.name] = str(error)
        if save_to is not None:
            report.save(save_to)
    return report


def against(
    subjects: Iterable[Subject],
    other: Subject,
    protocol: Protocol,
    cores: Sequence[int],
    images: str | None = None,
    save_to: Path | None = None,
    announce: Callable[[str], None] = lambda line: None,
    one: Callable[..., Comparison] = compare,
) -> Report:
    """Every subject against ``other``, taking turns; failures and saving as in `bench`."""
    report = Report(cores, environment(cores))
    for subject in subjects:
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
