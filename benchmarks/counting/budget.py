"""A budget: the counts an artifact may have, as a file that is checked in beside it.

The JSON:

    {
      "format": 1,
      "kind": "budget",
      "slack": {"instructions": 0.005, "instructions_arm64": 0.005, "artifact_bytes": 0.002},
      "artifacts": {
        "sinet-lightseg-fp32.tflite": {
          "counts": {"params": 86910, "macs": 63870448, "operators": 162, "operators.conv": 40, ...},
          "details": {"runtime": "ai-edge-litert", "version": "2.3.0", ...}
        }
      }
    }

``artifacts`` is keyed by file name; ``counts`` holds any of the counters of `lightseg.benchmarks.counting.counters`,
and only those that it holds are checked, except that an operator kind that is not there may not appear. ``slack`` is
the share a counter may rise (0 where none is given): a runtime's instructions move a little with where its memory
lies, and a file's record with the digits of what was measured. Times are no counters and never here. ``details`` is
what made the counts; it is not checked, but named when it differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightseg.benchmarks.counting.counters import COUNTERS, INSTRUCTIONS, Counters
from lightseg.errors import BadInput
from lightseg.files import atomic_path

FORMAT = 1
SLACK = {**dict.fromkeys(INSTRUCTIONS, 0.005), "artifact_bytes": 0.002}
"""A file's record holds measured errors, whose digits differ from machine to machine, and versions."""
KINDS = "operators."


@dataclass(frozen=True)
class Budget:
    """What every artifact may cost, by file name."""

    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    slack: dict[str, float] = field(default_factory=lambda: dict(SLACK))

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": "budget", "slack": self.slack, "artifacts": self.artifacts}

    def breaches(self, counters: Sequence[Counters]) -> list[str]:
        """One line for everything that rose, is not in the budget or could not be counted; empty: all is kept."""
        return [line for one in counters for line in self._breaches(one)]

    def _breaches(self, one: Counters) -> Iterator[str]:
        entry = self.artifacts.get(one.name)
        if entry is None:
            yield f"{one.name} is not in the budget; add it with --write-budget"
            return
        allowed: dict[str, int] = entry["counts"]
        changed = _changed(entry.get("details", {}), one.details)
        for name in sorted(allowed.keys() | {key for key in one.counts if key.startswith(KINDS)}, key=_order):
            limit = allowed.get(name, 0)
            if name in one.missing:
                yield f"{one.name}: {name} cannot be held against the budget's {limit:,}: {one.missing[name]}"
            elif one.counts.get(name, 0) - limit > limit * self.slack.get(name, 0):
                yield (
                    f"{one.name}: {name} rose from {limit:,} to {one.counts[name]:,}{_share(limit, one.counts[name])}"
                    + (changed if name in (*INSTRUCTIONS, "partitions") else "")
                )

    def unchecked(self, counters: Sequence[Counters]) -> list[str]:
        """Counters the budget holds that this run did not try to read, for instance those of another device."""
        held = {name for one in counters for name in self.artifacts.get(one.name, {}).get("counts", {})}
        tried = {name for one in counters for name in (*one.counts, *one.missing)}
        return sorted(held & set(INSTRUCTIONS) - tried)

    def with_counts(self, counters: Iterable[Counters]) -> Budget:
        """The budget with these artifacts' counts in place of what it held for them; the others stay.

        A counter that could not be read this time keeps its old limit.
        """
        artifacts = dict(self.artifacts)
        for one in counters:
            before = artifacts.get(one.name, {}).get("counts", {})
            kept = {name: limit for name, limit in before.items() if name in INSTRUCTIONS and name not in one.counts}
            artifacts[one.name] = {"counts": one.counts | kept, "details": one.details}
        return Budget(dict(sorted(artifacts.items())), self.slack)

    def save(self, path: Path) -> None:
        """Errors: `OutputError`."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def read_budget(path: Path) -> Budget:
    """Errors: `BadInput` for a missing file, one that is no budget, and a counter that does not exist."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        artifacts, slack = dict(data["artifacts"]), dict(data.get("slack", SLACK))
        counts = [entry["counts"] for entry in artifacts.values()]
        numbers = [value for one in counts for value in one.values()]
        sound = data["kind"] == "budget" and all(type(n) is int and n >= 0 for n in numbers)
    except FileNotFoundError:
        raise BadInput(f"no budget {path}; make one with --write-budget {path}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is not a readable budget ({type(error).__name__}: {error}); write it again") from error
    if not sound or data.get("format") != FORMAT:
        raise BadInput(f"{path} is not a budget of format {FORMAT} with whole numbers; write it again")
    unknown = {name for one in [*counts, slack] for name in one if name.split(".")[0] not in COUNTERS}
    if unknown:
        raise BadInput(f"{path}: no counter is called {min(unknown)!r}; there are {', '.join(COUNTERS)}")
    return Budget(artifacts, slack)


def _order(name: str) -> tuple[int, str]:
    return list(COUNTERS).index(name.split(".")[0]), name


def _share(before: int, after: int) -> str:
    return f" ({after / before - 1:+.1%})" if before else ""


def _changed(before: dict[str, str], after: dict[str, str]) -> str:
    """Which of the versions that a count depends on are others than when the budget was written."""
    names = ("version", "counter")
    found = [f"{before[n]}, now {after[n]}" for n in names if n in before and n in after and before[n] != after[n]]
    return f"; the budget was written with {'; '.join(found)}" if found else ""
