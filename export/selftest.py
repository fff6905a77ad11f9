"""The proof tried on itself: known defects, each in a real file or in what its runtime answers, must all be refused."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from lightseg.export.answers import prepared
from lightseg.export.artifact import Artifact
from lightseg.export.defects import COARSE_DEFECTS, GRAPH_DEFECTS, PREPROCESS_DEFECTS, RUNNER_DEFECTS, other_eps
from lightseg.export.graph import ops
from lightseg.export.graph.edit import op_nodes
from lightseg.export.parity import ProbeParity, measure
from lightseg.export.pipeline import Request, describe, make_plan
from lightseg.export.quantization.plan import Wish
from lightseg.export.reference import Reference
from lightseg.export.runner import Runner
from lightseg.export.targets import Target, find_target
from lightseg.spec import ModelSpec
from lightseg.zoo import SegmentationModel

EFFECTIVE = {"fp32": 1e-3, "fp16": 5e-2, "int8": 1e-2}
"""A place where a defect moves the photograph's logits by less than this share of the largest has none of it: float16
itself moves them by a few per cent where the network is deep."""

PERTURBATIONS = tuple(10.0**-k for k in range(1, 8))
"""Relative noise on every convolution weight, largest first."""

HEIGHT = 128
"""Rows of the images tried: every network takes them, and a trial takes a moment."""


@dataclass(frozen=True)
class Trial:
    """One defect. ``caught`` is None where the network has no place for it, or none where it changes anything."""

    defect: str
    seeded_in: str
    """``file`` (the network written), ``preprocessing`` (baked into the file) or ``runtime`` (its answers)."""
    caught: bool | None
    message: str


@dataclass(frozen=True)
class SelfTest:
    """All trials of one model with one target and precision."""

    model: str
    target: str
    precision: str
    runtime: str
    trials: tuple[Trial, ...]
    smallest_caught: float | None
    """The smallest of `PERTURBATIONS` that is refused; None when none is."""

    @property
    def survivors(self) -> list[str]:
        return [t.defect for t in self.trials if t.caught is False]

    @property
    def tried(self) -> int:
        return sum(t.caught is not None for t in self.trials)

    @property
    def kill_rate(self) -> float:
        return 1 - len(self.survivors) / self.tried if self.tried else 0.0

    def to_dict(self) -> dict[str, Any]:
        plain = {k: getattr(self, k) for k in ("model", "target", "precision", "runtime", "smallest_caught")}
        trials = [{k: getattr(t, k) for k in ("defect", "seeded_in", "caught", "message")} for t in self.trials]
        return {**plain, "tried": self.tried, "kill_rate": self.kill_rate, "trials": trials}


def size_of_trials(spec: ModelSpec) -> tuple[int, int]:
    """(height, width), in the shape of the published size."""
    height, width = spec.input_size
    return HEIGHT, round(HEIGHT * width / height / spec.multiple) * spec.multiple


def self_test(
    model: SegmentationModel,
    to: str,
    precision: str = "fp32",
    reference: Reference | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> SelfTest:
    """Seed every known defect into ``model`` as target ``to`` and have each file judged by the gate of `export`.

    Errors: `ParityError` when the sound file itself does not pass; those of `export` for impossible requests.
    """
    target = find_target(to)
    reference = reference or Reference(model, *size_of_trials(model.spec))
    wish = Wish(Path()) if precision == "int8" else None  # its photographs are the probes
    request = Request(precision=precision, input_size=reference.size, capabilities=(), int8=wish)
    request.check(model, target)
    with tempfile.TemporaryDirectory() as folder:
        bench = _bench(reference, target, request, Path(folder))
        trials = []
        for trial in bench.trials():
            tell(f"{target.name} {precision}: {trial.defect}")
            trials.append(trial)
        smallest = bench.smallest_caught()
    return SelfTest(model.name, target.name, precision, bench.sound.name, tuple(trials), smallest)


class Bench(Protocol):
    """Writes damaged files of one model for one target, and lets the proof judge them. A sound one has passed."""

    sound: Runner

    def trials(self) -> Iterator[Trial]:
        """One after the other."""

    def smallest_caught(self) -> float | None:
        """Of `PERTURBATIONS`."""


def _bench(reference: Reference, target: Target, request: Request, folder: Path) -> Bench:
    if request.precision != "int8":
        return _Bench(reference, target, request, folder)
    from lightseg.export.int8_selftest import Int8Bench

    return Int8Bench(reference, target, folder)


class _Bench:
    """Of fp32 and fp16."""

    def __init__(self, reference: Reference, target: Target, request: Request, folder: Path) -> None:
        self.reference, self.target, self.request, self.folder = reference, target, request, folder
        self.files = 0
        self.record = self._record(request)
        self.sound = self._written(reference, request)
        measure(self.record, self.sound, reference).check(f"the sound {target.name} file")

    def trials(self) -> Iterator[Trial]:
        for name, sites in GRAPH_DEFECTS.items():
            yield self._in_file(name, sites(self.reference.graph))
        for eps in (1e-5, 2e-3):
            damaged = other_eps(self.reference.graph, self.reference.model, eps)
            yield self._in_file(f"batch-norm eps {eps:g}", iter([damaged]))
        for name, change in PREPROCESS_DEFECTS.items():
            yield self._in_preprocessing(name, change)
        coarse = COARSE_DEFECTS if self.request.precision == "fp32" else {}
        for name, wrong in (RUNNER_DEFECTS | coarse).items():
            yield self._judged(name, "runtime", self.record, partial(Wrong, self.sound, wrong))

    def smallest_caught(self) -> float | None:
        caught = None
        for noise in PERTURBATIONS:
            trial = self._judged("", "file", self.record, partial(self._of_graph, noisy(self.reference.graph, noise)))
            if not trial.caught:
                break
            caught = noise
        return caught

    def _in_file(self, name: str, sites: Iterator[fx.GraphModule]) -> Trial:
        """At the first place where the defect is one."""
        tried = 0
        for damaged in sites:
            tried += 1
            if moved(damaged, self.reference) > EFFECTIVE[self.request.precision]:
                return self._judged(name, "file", self.record, partial(self._of_graph, damaged))
        return Trial(name, "file", None, "changes nothing here" if tried else "no place for it here")

    def _in_preprocessing(self, name: str, change: Callable[[Any], Any]) -> Trial:
        request = replace(self.request, preprocess="baked")
        model = copy.copy(self.reference.model)
        model.weights = replace(model.weights, preprocess=change(model.weights.preprocess))
        changed = copy.copy(self.reference)
        changed.model = model
        return self._judged(name, "preprocessing", self._record(request), partial(self._written, changed, request))

    def _judged(self, name: str, where: str, record: Artifact, make: Callable[[], Runner]) -> Trial:
        parity = measure(record, make(), self.reference)
        return Trial(name, where, not parity.ok, seen(parity.worst))

    def _of_graph(self, damaged: fx.GraphModule) -> Runner:
        changed = copy.copy(self.reference)
        changed.__dict__["graph"] = damaged
        return self._written(changed, self.request)

    def _written(self, reference: Reference, request: Request) -> Runner:
        """The file of ``reference``'s network, loaded."""
        self.files += 1
        path = self.folder / f"{self.files}{self.target.suffix}"
        if self.target.folder:
            path.mkdir()
        self.target.convert(make_plan(reference, self.target, request)[0], path)
        return self.target.load(path, 1)

    def _record(self, request: Request) -> Artifact:
        plan, changes = make_plan(self.reference, self.target, request)
        path = self.folder / f"trial{self.target.suffix}"
        return describe(self.reference.model, self.target, request, plan, changes, self.reference, path)


class Wrong(Runner):
    """A sound runner behind something that spoils its answers."""

    def __init__(self, sound: Runner, wrong: Callable[[Any, Any], NDArray[Any]]) -> None:
        self.name, self.details = sound.name, sound.details
        self._sound, self._wrong = sound, wrong
        self._x = self._y = np.empty(0)

    def feed(self, x: NDArray[Any]) -> None:
        self._x = x

    def run(self) -> None:
        self._y = self._wrong(self._sound, self._x)

    def fetch(self) -> NDArray[Any]:
        return self._y


def moved(damaged: fx.GraphModule, reference: Reference) -> float:
    """How much the photograph's logits move, as a share of the largest; NaN counts as infinitely much."""
    x = torch.from_numpy(prepared(reference.probes["photo"], reference.preprocess)).double()
    want = reference.logits["photo"]
    with torch.no_grad():
        change = np.abs(damaged(x).numpy() - want).max() / np.abs(want).max()
    return float(np.nan_to_num(change, nan=np.inf))


def noisy(graph: fx.GraphModule, noise: float) -> fx.GraphModule:
    damaged = copy.deepcopy(graph)
    generator = torch.Generator().manual_seed(0)
    for _, op in op_nodes(damaged):
        if isinstance(op, ops.Conv):
            factor = 1 + noise * torch.randn(op.weight.shape, dtype=op.weight.dtype, generator=generator)
            op.weight = op.weight * factor
    return damaged


def seen(worst: ProbeParity) -> str:
    """What gave the defect away, or would have to."""
    if not math.isfinite(worst.max_error):
        return f"probe {worst.probe}: NaN or infinity"
    return (
        f"probe {worst.probe}: error {worst.max_error:.2g} (allowed {worst.allowed:.2g}), "
        f"{worst.decided_flips} decided pixels flipped"
    )
