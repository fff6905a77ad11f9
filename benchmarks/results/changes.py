"""Two results side by side: what changed between them, and what is noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from lightseg.benchmarks.page.view import read_results
from lightseg.errors import BadInput

Answer = Literal["faster", "slower", "noise", "undecided", "fewer", "more", "same"]

COUNT_SLACK = {"instructions": 0.005, "instructions_arm64": 0.005}
FACTS = ("cpu", "flags", "governor", "virtual_machine", "system", "python", "versions", "commit")
"""Parts of the environment whose change can explain a difference."""
Key = tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One thing that both results hold. ``noise`` is how far from 1 the ratio may lie with nothing changed."""

    name: str
    what: str
    """``ms`` for the run's median, else the counter's name."""
    before: float
    after: float
    noise: float
    answer: Answer
    why: str = ""

    @property
    def ratio(self) -> float:
        return self.after / self.before if self.before else float("inf" if self.after else 1)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio if self.before else None}


@dataclass(frozen=True)
class Changes:
    """All of them, with what only one result holds and what differs in the environment."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    environment: dict[str, tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "changes",
            "changes": [one.to_dict() for one in self.changes],
            "only_before": list(self.only_before),
            "only_after": list(self.only_after),
            "environment": {name: list(values) for name, values in self.environment.items()},
        }


def compare_files(before: Path, after: Path) -> Changes:
    """Results of one kind: two measured ones, or two with exact counts, or two emulated ones.

    Errors: `BadInput` for other files, two kinds, or nothing in common.
    """
    old, new = read_results([before, after])
    if old["kind"] != new["kind"]:
        raise BadInput(f"{before} is {old['kind']} and {after} {new['kind']}; compare two of one kind")
    try:
        return _compare(old, new)
    except (KeyError, TypeError, IndexError) as error:
        raise BadInput(f"{before} or {after} is not complete ({type(error).__name__}: {error})") from error


def _compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    sides = [entries(old), entries(new)]
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        raise BadInput(
            "the two results have no row in common; a row is known by network, runtime, form, input and threads"
        )
    of = timed if old["kind"] == "measured" else counted
    changes = tuple(one for key in common for one in of(", ".join(key), sides[0][key], sides[1][key]))
    gone, come = (tuple(", ".join(k) for k in a if k not in b) for a, b in (sides, sides[::-1]))
    return Changes(changes, gone, come, moved(old.get("environment", {}), new.get("environment", {})))


def entries(result: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    """Rows by what they are of, whenever and wherever they were taken."""
    if result["kind"] == "measured":
        return {_key(row): row for row in result["rows"]}
    if result["kind"] == "counted":
        return {(one["name"],): one["counts"] for one in result["artifacts"]}
    if result["kind"] == "emulated":
        return {_emulated_key(row): {"instructions_arm64": row["instructions"]} for row in result["rows"]}
    raise BadInput("scores are compared by lightseg-evaluate, image by image; name two results of lightseg-bench")


def _emulated_key(row: Mapping[str, Any]) -> Key:
    return row["artifact"], *(["float16 arithmetic"] if row.get("half") else [])


def _key(row: Mapping[str, Any]) -> Key:
    subject = row["subject"]
    threads = f"{row['threads']} thread" + ("s" if row["threads"] > 1 else "")
    precision = [subject["precision"]] if subject["precision"] not in ("", "fp32") else []
    about = subject["label"], subject["runtime"], *precision, *_form(subject)
    return *about, "x".join(map(str, subject["shape"])), threads


def _form(subject: Mapping[str, Any]) -> list[str]:
    """What files of one network, runtime and precision differ in; results of earlier versions lack some of it."""
    if subject["path"] is None:
        return []
    output = subject.get("output", "")
    known = {output: output != "logits", "baked": subject["preprocess"] is None, "dynamic": subject.get("any_batch")}
    return [name for name, holds in known.items() if name and holds]


def timed(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """The run's medians. Neither run knew of the other, so that more than an interval's gap is asked for."""
    old, new = (row["summary"]["run"]["median_ms"] for row in (before, after))
    noise = max(_noise(before), _noise(after))
    doubtful = [f"{row['verdict']} {when}" for row, when in ((before, "before"), (after, "after"))]
    doubtful = [text for text in doubtful if not text.startswith("PUBLISHABLE")]
    answer: Answer = "noise"
    if doubtful:
        answer = "undecided"
    elif abs(new / old - 1) > noise and not _overlap(before, after):
        answer = "slower" if new > old else "faster"
    yield Change(name, "ms", old, new, noise, answer, ", ".join(doubtful))


def _noise(row: Mapping[str, Any]) -> float:
    """How far this row's own processes lay apart; of a single process, what its protocol would let pass."""
    medians = [median(process["sampled"]["samples_ns"]) for process in row["processes"]]
    low, high = row["run_p50_interval_ms"]
    width = float(high - low) / float(row["summary"]["run"]["median_ms"])
    between = max(medians) / min(medians) - 1 if len(medians) > 1 else float(row["protocol"]["noisy"])
    return max(width, between)


def _overlap(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    (low, high), (other_low, other_high) = before["run_p50_interval_ms"], after["run_p50_interval_ms"]
    return bool(low <= other_high and other_low <= high)


def counted(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[Change]:
    """Counters that either has; only instructions have noise."""
    for counter in dict.fromkeys([*before, *after]):
        if counter.split(".")[0] != "operators" and not (counter in before and counter in after):
            continue  # a counter that one side could not read is no change
        old, new = before.get(counter, 0), after.get(counter, 0)
        slack = COUNT_SLACK.get(counter, 0.0)
        near = abs(new - old) <= slack * old
        answer: Answer = "same" if old == new else "noise" if near else "more" if new > old else "fewer"
        yield Change(name, counter, old, new, slack, answer)


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs in machine and software."""
    pairs = {name: (before.get(name), after.get(name)) for name in FACTS if name != "versions"}
    versions = [side.get("versions", {}) for side in (before, after)]
    pairs |= {
        name: (versions[0].get(name), versions[1].get(name)) for name in dict.fromkeys([*versions[0], *versions[1]])
    }
    return {name: (_text(a), _text(b)) for name, (a, b) in pairs.items() if a != b}


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def summary(changes: Sequence[Change]) -> str:
    """How many of each answer, in words."""
    order: tuple[Answer, ...] = ("slower", "faster", "more", "fewer", "noise", "undecided", "same")
    counts = {answer: sum(one.answer == answer for one in changes) for answer in order}
    return ", ".join(f"{count} {answer}" for answer, count in counts.items() if count)
