"""From result files to what a page shows. Reads JSON only, so that any earlier result can be shown again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightseg.benchmarks.page.told import Told, told
from lightseg.benchmarks.timing.subject import ANOTHER, TWIN
from lightseg.errors import BadInput

EAGER = "PyTorch eager"
KINDS = ("measured", "counted", "emulated", "scores")
"""Result files that a page can show, by their key ``kind``; what lightseg-evaluate writes is known by ``scores``."""


@dataclass(frozen=True)
class Line:
    """One measured row. Times are milliseconds of the run alone unless the name says otherwise."""

    network: str
    runtime: str
    shape: tuple[int, ...]
    threads: int
    verdict: str
    reasons: tuple[str, ...]
    note: str
    statistics: Mapping[str, Mapping[str, Any]]
    """The summary of every boundary."""
    interval: tuple[float, float]
    samples: tuple[float, ...]
    file: str
    """The artifact's file name; empty for PyTorch eager."""
    memory: int | None = None
    """Largest resident bytes of a process that did nothing but run three images."""
    precision: str = ""
    """Empty for float32; the runtime's name ends with it."""

    @property
    def size(self) -> str:
        batch, _, height, width = self.shape
        return f"{height}×{width}" if batch == 1 else f"{batch} × {height}×{width}"

    @property
    def of_others(self) -> bool:
        return ANOTHER in self.note

    @property
    def is_plain(self) -> bool:
        """Whether the general converter wrote it."""
        return self.network.endswith(TWIN)

    @property
    def name(self) -> str:
        return f"{self.network}, {self.runtime}" + (f", {self.threads} threads" if self.threads > 1 else "")

    @property
    def p50(self) -> float:
        """The median; of few samples too, as the verdict then says."""
        return float(self.statistics["run"]["median_ms"])

    @property
    def cpu(self) -> float | None:
        """Median processor time of the run, all threads together; None where another device does the work."""
        return None if "device" in self.statistics else self.value("run_cpu", "median_ms")

    @property
    def worked(self) -> float:
        """Milliseconds that the device itself took: by its own clock, else the processor's, else the run's."""
        return self.value("device", "median_ms") or self.cpu or self.p50

    def value(self, boundary: str, statistic: str) -> float | None:
        value = self.statistics.get(boundary, {}).get(statistic)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Group:
    """Rows of one network at one size, comparable with each other."""

    network: str
    size: str
    lines: tuple[Line, ...]

    @property
    def of_others(self) -> bool:
        """Whether it is a peer's network, which the first sentence is not about."""
        return all(line.of_others for line in self.lines)

    @property
    def by_processor_time(self) -> bool:
        """Whether rows are judged by the processor time of the run, which other processes do not lengthen as they do
        the run itself: where a row is not PUBLISHABLE, and all are of one thread."""
        noisy = any(line.verdict != "PUBLISHABLE" for line in self.lines)
        return noisy and all(line.threads == 1 and line.cpu is not None for line in self.lines)

    def judged(self, line: Line) -> float:
        """The time rows are compared by."""
        return (line.cpu or line.p50) if self.by_processor_time else line.p50

    @property
    def fastest(self) -> Line:
        """Of our rows that are not INVALID; of all ours, or of all, where there is no other."""
        ours = [line for line in self.lines if not line.is_plain] or list(self.lines)
        valid = [line for line in ours if line.verdict != "INVALID"]
        return min(valid or ours, key=self.judged)

    def gain(self, line: Line) -> float | None:
        """How many times faster than PyTorch eager with as many threads; None for eager itself and without it."""
        eager = [o for o in self.lines if o.runtime == EAGER and o.threads == line.threads]
        return self.judged(eager[0]) / self.judged(line) if eager and line.runtime != EAGER else None


@dataclass(frozen=True)
class View:
    """Everything on the page."""

    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    groups: tuple[Group, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    comparisons: tuple[Mapping[str, Any], ...] = ()
    counted: tuple[Mapping[str, Any], ...] = ()
    emulated: tuple[Mapping[str, Any], ...] = ()
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ceilings: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By file name, as `lightseg.benchmarks.layers.layers_of` found them."""
    samples: Mapping[str, Any] = field(default_factory=dict)
    """A photograph and what the rows make of it, as `lightseg.benchmarks.samples.samples_of` made them."""
    cited: tuple[Mapping[str, Any], ...] = ()
    """Other people's figures for networks on the page."""
    told: tuple[Told, ...] = ()
    """What ``benchmark_model`` told of files on phones."""

    @property
    def lines(self) -> list[Line]:
        return [line for group in self.groups for line in group.lines]

    @property
    def verdicts(self) -> dict[str, int]:
        return {v: sum(line.verdict == v for line in self.lines) for v in ("PUBLISHABLE", "NOISY", "INVALID")}

    def called(self, name: str, line: Line) -> str:
        """``name``, with the size of ``line`` where its network is on the page at several."""
        sizes = {other.size for other in self.lines if other.network == line.network}
        return f"{name}, {line.size}" if len(sizes) > 1 else name


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Results written with --json. Errors: `BadInput` for a file that is none."""
    return [_read(path) for path in paths]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); name a file written with --json") from error
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); name a file written with --json") from error
    if isinstance(data, dict) and "scores" in data:
        return {"kind": "scores", **data}
    if not isinstance(data, dict) or data.get("kind") not in KINDS:
        raise BadInput(f"{path} is no result of lightseg-bench or lightseg-evaluate; write one with --json {path.name}")
    return data


def view(results: Iterable[Mapping[str, Any]]) -> View:
    """One page of all ``results``. Machine, command and protocol are those of the first measured one.

    Errors: `BadInput` when a result lacks what its kind must have.
    """
    of: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
    for result in results:
        of[result["kind"]].append(result)
    try:
        return _view(of)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"a result is not complete ({type(error).__name__}: {error}); measure again") from error


def _view(of: Mapping[str, Sequence[Mapping[str, Any]]]) -> View:
    measured = of["measured"]
    first: Mapping[str, Any] = measured[0] if measured else {}
    rows = [row for result in measured for row in result["rows"]]
    return View(
        environment=environment_of(first),
        command=" ".join(["lightseg-bench", *first.get("command", [])]) if measured else "",
        groups=tuple(groups([line(row) for row in rows])),
        failed={name: reason for result in measured for name, reason in result["failed"].items()},
        comparisons=tuple(one for result in measured for one in result["comparisons"]),
        counted=tuple(one for result in of["counted"] for one in result["artifacts"]),
        emulated=tuple(row for result in of["emulated"] for row in result["rows"]),
        scores={name: score for result in of["scores"] for name, score in result["scores"].items()},
        ceilings=first.get("ceilings") or {},
        costs={name: cost for result in measured for name, cost in (result.get("costs") or {}).items()},
        protocol=rows[0]["protocol"] if rows else {},
        layers={name: one for result in measured for name, one in (result.get("layers") or {}).items()},
        samples=_samples([result["samples"] for result in measured if result.get("samples")]),
        cited=tuple(one for result in measured for one in result.get("cited", ()) if one["kind"] == "cited"),
        told=tuple(told(one, result["environment"]) for result in measured for one in result.get("summaries") or ()),
    )


def environment_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Of the first run; when rows were measured in further ones, when and in which state those were."""
    later = [f"{run['time']}, commit {run['commit']}" for run in result.get("resumed") or ()]
    return {**result.get("environment", {}), **({"resumed": "; ".join(later)} if later else {})}


def _samples(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of all results; the photograph is the first one's."""
    rows = [row for one in several for row in one["rows"]]
    return {"photo": several[0]["photo"], "rows": rows} if several else {}


def line(row: Mapping[str, Any]) -> Line:
    """One row of a measured result."""
    subject = row["subject"]
    precision = "" if subject["precision"] in ("", "fp32") else subject["precision"]
    low, high = row["run_p50_interval_ms"]
    return Line(
        network=subject["label"],
        runtime=f"{subject['runtime']} {precision}".rstrip(),
        shape=tuple(subject["shape"]),
        threads=row["threads"],
        verdict=row["verdict"],
        reasons=tuple(row["reasons"]),
        note=subject["note"],
        statistics=row["summary"],
        interval=(low, high),
        samples=tuple(ns / 1e6 for process in row["processes"] for ns in process["sampled"]["samples_ns"]),
        file=Path(subject["path"]).name if subject["path"] else "",
        memory=row.get("memory", {}).get("peak_memory_bytes"),
        precision=precision,
    )


def groups(lines: Iterable[Line]) -> list[Group]:
    """In the order of their first rows; the general converters' behind our own of the same network."""
    found: dict[tuple[str, str], list[Line]] = {}
    for one in lines:
        found.setdefault((one.network.removesuffix(TWIN), one.size), []).append(one)
    return [
        Group(network, size, tuple(sorted(members, key=lambda line: line.is_plain)))
        for (network, size), members in found.items()
    ]


def score_of(shown: View, one: Line) -> tuple[str, float] | None:
    """The accuracy that belongs to a row, as metric and value in percent: its own file's; in PyTorch, its model's.

    None where several candidates of that name were given scores that differ: nothing says which of them the row is.
    """
    files = [name for name in shown.scores if _file_name(name) == one.file]
    names = files if one.file else _model_names(one) & shown.scores.keys()
    given = [shown.scores[name] for name in names]
    if not given or any(score != given[0] for score in given):
        return None
    known = (metric for metric in ("per_image_person_iou", "confusion_miou") if metric in given[0])
    return next(((metric, float(given[0][metric])) for metric in known), None)


def _file_name(candidate: str) -> str:
    """Of what lightseg-evaluate was given: a file in whatever folder, or a peer's name."""
    from lightseg.benchmarks.peers import PEERS

    return PEERS[candidate].file if candidate in PEERS else Path(candidate).name


def _model_names(one: Line) -> set[str]:
    """What lightseg-evaluate may call the model of a row in PyTorch: none unless that is what it scores, which is
    float32 at the published size."""
    from lightseg.catalogue import MODELS

    model, _, tag = one.network.partition("-")
    spec = MODELS.get(model)
    if spec is None or one.precision or one.shape[2:] != spec.input_size:
        return set()
    return {f"{model}.{tag}"} | ({model} if tag == spec.weights[0].tag else set())
