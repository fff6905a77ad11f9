"""The proof of int8 files tried on itself: known defects seeded into files that keep the grids of the sound one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor, fx

from lightseg.errors import BadInput, ParityError
from lightseg.export.artifact import Artifact
from lightseg.export.defects import GRAPH_DEFECTS, PREPROCESS_DEFECTS, RUNNER_DEFECTS, Sites, other_eps
from lightseg.export.int8_defects import GRID_DEFECTS
from lightseg.export.parity import measure
from lightseg.export.pipeline import Request, describe, make_plan
from lightseg.export.probes import NATURAL
from lightseg.export.quantization.equalise import channel_scales, rescale_by_name, scales_by_name
from lightseg.export.quantization.placement import better_in_float
from lightseg.export.quantization.plan import Wish
from lightseg.export.quantization.quantise import Grids, convolutions, quantise
from lightseg.export.quantization.ranges import grids, watch
from lightseg.export.quantization.recipe import widths
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.simulation import SimulatedReference, as_input
from lightseg.export.quantization.steps import compare_steps
from lightseg.export.reference import Reference
from lightseg.export.runner import Runner
from lightseg.export.selftest import EFFECTIVE, PERTURBATIONS, Trial, Wrong, moved, noisy, seen
from lightseg.export.targets import Plan, Target
from lightseg.spec import Preprocess

SHOWN = ("photo", "scene")
"""The probes that stand in for photographs: what is tried is the proof, not the choice of grids."""


@dataclass(frozen=True)
class Sound:
    """The int8 file of the undamaged network, and the grids every damaged file keeps."""

    plan: Plan
    graph: fx.GraphModule
    reference: SimulatedReference
    record: Artifact
    scales: Mapping[str, Tensor]
    """Of the channels, by value."""
    grids: Grids
    floats: tuple[str, ...]
    scheme: Scheme

    def quantised(self, graph: fx.GraphModule) -> fx.GraphModule:
        """Another rewritten graph with this one's scales and grids."""
        even = copy.deepcopy(graph)
        rescale_by_name(even, self.scales)
        return quantise(even, self.grids, self.scheme, self.floats)


class Int8Bench:
    """Writes damaged int8 files of one model for one target, and lets the two halves of the proof judge them."""

    def __init__(self, reference: Reference, target: Target, folder: Path) -> None:
        self.reference, self.target, self.folder = reference, target, folder
        self.files = 0
        self.plain = self._made("none")
        path = self._written(self.plain, self.plain.graph)
        self.sound = self.target.load(path, 1)
        self._check(self.plain, path, self.sound)

    def trials(self) -> Iterator[Trial]:
        for name, sites in GRAPH_DEFECTS.items():
            yield self._in_network(name, sites(self.reference.graph))
        for eps in (1e-5, 2e-3):
            damaged = other_eps(self.reference.graph, self.reference.model, eps)
            yield self._in_network(f"batch-norm eps {eps:g}", iter([damaged]))
        for name, sites in GRID_DEFECTS.items():
            yield self._in_numbers(name, sites(self.plain.graph))
        baked = self._made("baked")
        for name, change in PREPROCESS_DEFECTS.items():
            yield self._in_preprocessing(name, baked, change)
        for name, wrong in RUNNER_DEFECTS.items():
            parity = measure(self.plain.record, Wrong(self.sound, wrong), self.plain.reference)
            yield Trial(name, "runtime", not parity.ok, seen(parity.worst))

    def smallest_caught(self) -> float | None:
        caught = None
        for noise in PERTURBATIONS:
            if not self._judged(
                "", "file", self.plain, partial(self._network, noisy(self.reference.graph, noise))
            ).caught:
                break
            caught = noise
        return caught

    def _made(self, preprocess: str) -> Sound:
        """As an export does, but for the photographs."""
        reference, scheme = self.reference, self.target.int8
        assert scheme is not None
        request = self._request(preprocess)
        plan, changes = make_plan(reference, self.target, request)
        images = [as_input(reference.probes[name], reference.preprocess, plan.baked) for name in SHOWN]
        shape = tuple(images[0].shape)
        scales = scales_by_name(
            plan.graph,
            widths(plan.graph, shape),
            channel_scales(plan.graph, watch(copy.deepcopy(plan.graph).float(), images), scheme.outputs),
        )
        even = copy.deepcopy(plan.graph)
        rescale_by_name(even, scales)
        values = watch(copy.deepcopy(even).float(), images)
        found = grids(values, values, scheme)
        floats = tuple(better_in_float(even, shape, scheme.price)) if scheme.price else ()
        floats = () if len(floats) == len(convolutions(even)) else floats
        graph = quantise(even, found, scheme, floats)
        simulated = SimulatedReference(reference, graph, plan.baked)
        path = self.folder / f"trial{self.target.suffix}"
        record = describe(reference.model, self.target, request, plan, changes, simulated, path)
        return Sound(plan, graph, simulated, record, scales, found, floats, scheme)

    def _request(self, preprocess: str) -> Request:
        return Request("int8", self.reference.size, preprocess=preprocess, capabilities=(), int8=Wish(Path()))

    def _in_network(self, name: str, sites: Sites) -> Trial:
        """Seeded into the captured network, rewritten and quantised on the sound network's grids."""
        for damaged in sites:
            if moved(damaged, self.reference) > EFFECTIVE["int8"]:
                return self._judged(name, "file", self.plain, partial(self._network, damaged))
        return Trial(name, "file", None, "no place for it here, or none where it changes anything")

    def _network(self, damaged: fx.GraphModule) -> fx.GraphModule:
        changed = copy.copy(self.reference)
        changed.__dict__["graph"] = damaged
        return self.plain.quantised(make_plan(changed, self.target, self._request("none"))[0].graph)

    def _in_numbers(self, name: str, sites: Sites) -> Trial:
        """Seeded into the int8 graph itself."""
        for damaged in sites:
            if moved(damaged, self.plain.reference) > EFFECTIVE["int8"]:
                return self._judged(name, "numbers", self.plain, lambda: damaged)  # noqa: B023
        return Trial(name, "numbers", None, "no place for it here, or none where it changes anything")

    def _in_preprocessing(self, name: str, baked: Sound, change: Callable[[Preprocess], Preprocess]) -> Trial:
        changed, model = copy.copy(self.reference), copy.copy(self.reference.model)
        model.weights = replace(model.weights, preprocess=change(model.weights.preprocess))
        changed.model = model
        plan, _ = make_plan(changed, self.target, self._request("baked"))
        return self._judged(name, "preprocessing", baked, lambda: baked.quantised(plan.graph))

    def _judged(self, name: str, where: str, sound: Sound, make: Callable[[], fx.GraphModule]) -> Trial:
        try:
            path = self._written(sound, make())
            self._check(sound, path, self.target.load(path, 1))
        except (ParityError, BadInput) as error:
            return Trial(name, where, True, str(error))
        return Trial(name, where, False, "every value is on its grid and the answers are as near as they may be")

    def _check(self, sound: Sound, path: Path, runner: Runner) -> None:
        """Errors: `ParityError`, as in an export."""
        what = f"the {self.target.name} file"
        for probe in NATURAL:
            steps = compare_steps(path, sound.record, sound.graph, sound.reference, probe)
            if steps:
                steps.check(what)
        measure(sound.record, runner, sound.reference).check(what)

    def _written(self, sound: Sound, graph: fx.GraphModule) -> Path:
        self.files += 1
        path = self.folder / f"{self.files}{self.target.suffix}"
        if self.target.folder:
            path.mkdir()
        self.target.convert(replace(sound.plan, graph=graph), path)
        return path
