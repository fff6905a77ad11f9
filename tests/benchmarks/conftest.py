"""A measured process that answers at once, so that the parent's side is tested without timing anything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import Row, measure
from lightseg.benchmarks.timing.process import Child
from lightseg.benchmarks.timing.subject import Subject

SUBJECT = Subject("sinet-random", "PyTorch eager", (1, 3, 64, 64), None, model="sinet", weights="random")
QUIET: dict[str, dict[str, Any]] = {
    "open": {
        "import_and_load_ns": 9_000_000,
        "load_ns": 3_000_000,
        "first_ns": 2_000_000,
        "affinity": [0],
        "inputs": 32,
        "runtime": "torch eager",
        "details": {"runtime": "torch", "version": "0"},
    },
    "warm_up": {"settled": True, "runs": 30, "window_medians_ns": [1.0, 1.0, 1.0]},
    "sample": {
        "samples_ns": [1_000_000 + 100 * (i % 7) for i in range(400)],
        "cpu_samples_ns": [990_000] * 400,
        "device_ns": [],
        "wall_ns": 500_000_000,
        "cpu_ns": 499_000_000,
        "involuntary_switches": 0,
        "load_average": [[0.1], [0.1]],
        "temperature": [None, None],
        "stolen_jiffies": 0,
        "audit": {"checked": 12, "worst": 0.0, "distinct": True},
    },
    "repeat": {
        "samples_ns": [1_000_000] * 3,
        "cpu_samples_ns": [990_000] * 3,
        "device_ns": [],
        "wall_ns": 3_100_000,
        "cpu_ns": 3_100_000,
        "involuntary_switches": 0,
        "audit": {"checked": 3, "worst": 0.0, "distinct": True},
    },
    "transfer": {"samples_ns": [], "reason": "not applicable: the processor reads the host's own memory"},
    "image_to_mask": {"samples_ns": [5_000_000] * 9, "photo_sizes": [[512, 512]], "reason": ""},
    "energy": {"reason": "not available: no counter"},
    "memory": {"peak_memory_bytes": 70_000_000, "before_model_bytes": 40_000_000},
    "close": {},
}


class FakeChild:
    """Answers from a table; ``requests`` keeps what it was asked."""

    offers = Child.offers

    def __init__(self, answers: dict[str, dict[str, Any]]) -> None:
        self.answers, self.requests = answers, list[dict[str, Any]]()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.requests.append({"do": do, **arguments})
        key = "repeat" if do == "sample" and not arguments.get("rotate", True) else do
        return copy.deepcopy(self.answers[key])

    def __enter__(self) -> FakeChild:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


@pytest.fixture
def answers() -> dict[str, dict[str, Any]]:
    """A quiet machine and an honest runtime; a test changes what it is about."""
    return copy.deepcopy(QUIET)


@pytest.fixture
def measured(answers: dict[str, dict[str, Any]]) -> Callable[..., Row]:
    """`measure` of a made-up subject by a child that gives ``answers``."""

    def row(protocol: Protocol | None = None, subject: Subject = SUBJECT) -> Row:
        child = FakeChild(answers)
        return measure(subject, protocol or Protocol(processes=1), [0], None, lambda threads: child)

    return row


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ExtremeC3Net with random weights at 32×64, by target; skips where one cannot be written and run."""
    from lightseg.export import export
    from lightseg.export.targets import TARGETS
    from lightseg.zoo import create_model

    folder = tmp_path_factory.mktemp("small")
    for name in ("onnx", "tflite"):
        if reason := TARGETS[name].why_not_convert() or TARGETS[name].why_not_load():
            pytest.skip(reason)
    model = create_model("extremec3net", "random")
    return {name: export(model, to=name, out=folder, input_size=(32, 64)).path for name in ("onnx", "tflite")}
