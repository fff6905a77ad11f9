"""The gate fails for every seeded defect, on every network, with the number and the limit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import fx

from lightseg.errors import ParityError
from lightseg.export.answers import as_output, prepared
from lightseg.export.artifact import Artifact
from lightseg.export.defects import COARSE_DEFECTS, GRAPH_DEFECTS, PREPROCESS_DEFECTS, RUNNER_DEFECTS, other_eps
from lightseg.export.graph.compose import bake_preprocess
from lightseg.export.parity import measure
from lightseg.export.pipeline import Request, describe, make_plan
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS
from lightseg.zoo import MODELS, create_model
from tests.export.subjects import graph_of, reference, relative, small_size

MANY = [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("sinet", "c3netv2"))) for n in MODELS]
"""Two networks stand for the rest in the quick run: one with gates and shuffles, one with dilations."""
Run = Callable[[NDArray[Any]], NDArray[Any]]
WRONG_RUNS = RUNNER_DEFECTS | COARSE_DEFECTS
EFFECTIVE = 1e-3
"""A place where the defect moves the logits by less than this on a photograph is no defect: a dead branch, say."""


class Stub:
    """A runner made of a function."""

    name, details = "stub", {"runtime": "stub", "version": "0"}

    def __init__(self, answer: Run) -> None:
        self._answer = answer
        self._x = self._y = np.empty(0)

    def feed(self, x: NDArray[Any]) -> None:
        self._x = x

    def run(self) -> None:
        self._y = self._answer(self._x)

    def fetch(self) -> NDArray[Any]:
        return self._y

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        return self._answer(x)


def drafted(ref: Reference, **options: Any) -> Artifact:
    """The record of an artifact that is never written."""
    target, request = TARGETS["onnx"], Request(input_size=ref.size, **options)
    plan, changes = make_plan(ref, replace(target, rewrites=tuple), request)
    return describe(ref.model, target, request, plan, changes, ref, Path("draft.onnx"))


@cache
def draft(name: str, **options: Any) -> Artifact:
    return drafted(reference(name), **options)


@cache
def slim(name: str) -> Reference:
    """The reference with two probes alone: what they catch, the whole pack catches."""
    ref = copy.copy(reference(name))
    ref.probes = {k: ref.probes[k] for k in ("photo", "checkerboard")}
    return ref


def in_float32(graph: fx.GraphModule) -> Run:
    """The graph as a runtime would run it; it is float32 from then on."""
    single = graph.float()

    def run(x: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            answer: NDArray[Any] = single(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        return answer

    return run


def refused(artifact: Artifact, run: Run, ref: Reference) -> str:
    """The error's one line; fails where the proof passes."""
    with pytest.raises(ParityError) as caught:
        measure(artifact, Stub(run), ref).check("it")
    assert "allowed" in str(caught.value) or "NaN" in str(caught.value)
    return str(caught.value)


def effect(damaged: fx.GraphModule, ref: Reference) -> float:
    """How much the photograph's logits move; NaN counts as infinitely much."""
    change = relative(damaged(torch.from_numpy(_photo(ref)).double()), ref.logits["photo"])
    return float(np.nan_to_num(change, nan=np.inf))


@pytest.mark.parametrize("name", MODELS)
def test_the_sound_graph_passes(name: str) -> None:
    """Or the tests below would prove nothing."""
    parity = measure(draft(name), Stub(in_float32(graph_of(name))), reference(name))
    parity.check(name)
    assert parity.agreement > 0.9999


@pytest.mark.parametrize("defect", GRAPH_DEFECTS)
@pytest.mark.parametrize("name", MANY)
def test_defects_in_the_graph_are_caught(name: str, defect: str) -> None:
    """At the first place where the defect is one; the slow run below takes them all."""
    ref, tried = slim(name), 0
    for damaged in GRAPH_DEFECTS[defect](ref.graph):
        tried += 1
        if effect(damaged, ref) > EFFECTIVE:
            refused(draft(name), in_float32(damaged), ref)
            return
    if tried:
        pytest.fail("the defect changes nothing anywhere: choose other places")
    pytest.skip(f"{name} has no place for it")


@pytest.mark.parametrize("eps", [1e-5, 2e-3])
@pytest.mark.parametrize("name", MANY)
def test_another_batch_norm_eps_is_caught(name: str, eps: float) -> None:
    ref = slim(name)
    refused(draft(name), in_float32(other_eps(ref.graph, ref.model, eps)), ref)


@pytest.mark.parametrize("defect", PREPROCESS_DEFECTS)
@pytest.mark.parametrize("name", MANY)
def test_wrong_baked_preprocessing_is_caught(name: str, defect: str) -> None:
    ref = slim(name)
    refused(draft(name, preprocess="baked"), _baked(ref, PREPROCESS_DEFECTS[defect](ref.preprocess)), ref)


@pytest.mark.parametrize("name", MODELS)
def test_right_baked_preprocessing_passes(name: str) -> None:
    ref = reference(name)
    measure(draft(name, preprocess="baked"), Stub(_baked(ref, ref.preprocess)), ref).check(name)


@cache
def _sound(name: str) -> Run:
    return in_float32(graph_of(name))


def _baked(ref: Reference, preprocess: Any) -> Run:
    graph = copy.deepcopy(ref.graph)
    bake_preprocess(graph, preprocess)
    run = in_float32(graph)
    return lambda x: run(x.transpose(0, 2, 3, 1).astype(np.uint8))


@pytest.mark.parametrize("defect", WRONG_RUNS)
@pytest.mark.parametrize("name", MANY)
def test_what_a_runtime_does_wrong_is_caught(name: str, defect: str) -> None:
    ref = slim(name)
    run = _sound(name)
    refused(draft(name), partial(WRONG_RUNS[defect], run), ref)


@pytest.mark.parametrize("output", ["probability", "mask"])
@pytest.mark.parametrize("defect", ["classes swapped", "branch dropped", "align_corners flipped"])
@pytest.mark.parametrize("name", MANY)
def test_defects_show_through_heads(name: str, defect: str, output: str) -> None:
    """A mask shows a defect only where it flips decided pixels; a large one flips many."""
    ref = slim(name)
    for damaged in GRAPH_DEFECTS[defect](ref.graph):
        if effect(damaged, ref) > 0.2:
            refused(draft(name, output=output), _headed(in_float32(damaged), output, ref), ref)
            return
    pytest.skip("the defect is too small to flip classes here")


def _headed(run: Run, output: str, ref: Reference) -> Run:
    return lambda x: as_output(run(x), output, ref.labels)


def test_an_answer_of_an_earlier_image_is_caught() -> None:
    """A runner that forgets to copy its input."""
    ref, first = slim("sinet"), list[NDArray[Any]]()

    def stuck(x: NDArray[Any]) -> NDArray[Any]:
        first.append(x)
        return _sound("sinet")(first[0])

    assert "probe" in refused(draft("sinet"), stuck, ref)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_defect_is_caught_on_released_weights(
    name: str, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a quarter of the published size, where the released weights see what they were trained on."""
    model = create_model(name)
    height, width = (max(s // 4 // model.spec.multiple, 1) * model.spec.multiple for s in model.spec.input_size)
    ref = Reference(model, *max((height, width), small_size(name)))
    record = drafted(ref)
    caught = skipped = 0
    for defect in GRAPH_DEFECTS.values():
        for damaged in defect(ref.graph):
            if effect(damaged, ref) > EFFECTIVE:
                refused(record, in_float32(damaged), ref)
                caught += 1
            else:
                skipped += 1
    run = in_float32(copy.deepcopy(ref.graph))
    for wrong in WRONG_RUNS.values():
        refused(record, partial(wrong, run), ref)
    baked = drafted(ref, preprocess="baked")
    for change in PREPROCESS_DEFECTS.values():
        refused(baked, _baked(ref, change(ref.preprocess)), ref)
    with capsys.disabled():
        total = caught + len(WRONG_RUNS) + len(PREPROCESS_DEFECTS)
        print(f"\n{name}: {total} defects caught of {total}; {skipped} places where nothing changes")  # noqa: T201
    assert caught > 20


def _photo(ref: Reference) -> NDArray[np.float32]:
    return prepared(ref.probes["photo"], ref.preprocess)
