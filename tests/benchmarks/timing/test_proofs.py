"""Golden outputs for rows in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lightseg.benchmarks.cuda.making import make
from lightseg.benchmarks.selection import artifact_subjects, eager_subject
from lightseg.benchmarks.timing.proofs import Alike, needs_proof, repeat, with_proofs
from lightseg.benchmarks.timing.subject import Subject
from tests.benchmarks.timing.test_child import FakeRunner

EAGER = Subject("a", "PyTorch eager", (1, 3, 8, 8), None, model="a")


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({}, False),
        ({"device": "cuda"}, True),
        ({"compiled": True}, True),
        ({"precision": "fp16"}, True),
        ({"path": "/x/a.onnx", "device": "cuda"}, False),
        ({"path": "/x/a.onnx", "device": "cuda", "precision": "tf32"}, True),
    ],
)
def test_what_goldens_are_made_with_needs_none(change: dict[str, Any], needed: bool) -> None:
    assert needs_proof(replace(EAGER, **change)) is needed


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    """ExtremeC3Net with random weights: in float32, with TF32, as a batch; one reference for all three."""
    base = replace(eager_subject("extremec3net", "random", (32, 64)), runtime="torch.compile", compiled=True)
    rows = [base, replace(base, precision="tf32"), replace(base, shape=(3, 3, 32, 64))]
    said: list[str] = []
    found = with_proofs([*rows, replace(base, compiled=False)], tmp_path_factory.mktemp("proofs"), said.append)
    assert said == ["computing what extremec3net-random must answer, in float64 on the processor"]
    assert [subject.proof for subject in found] == [True, True, True, False]
    return [replace(subject, compiled=False) for subject in found[:3]]


def test_a_float32_file_with_tf32_is_judged_by_tf32_s_limits(small: dict[str, Path], tmp_path: Path) -> None:
    model, file = artifact_subjects([small["onnx"]])
    _, row = with_proofs([model, replace(file, precision="tf32")], tmp_path, lambda line: None)
    runner: Any = Off(make(row, 1), 1e-3)
    assert repeat(row, runner)["wrong"] == "" != repeat(file, runner)["wrong"]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_pytorch_repeats_its_goldens(index: int, proven: list[Subject]) -> None:
    answer = repeat(proven[index], make(proven[index], 1))
    assert answer["wrong"] == "" and [one["probe"] for one in answer["checked"]] == ["photo", "scene"]


class Off:
    """Answers of another runner, the last image of a batch changed by a share."""

    def __init__(self, runner: Any, share: float) -> None:
        self.runner, self.share, self.name, self.details = runner, share, "off", dict[str, str]()

    def feed(self, x: NDArray[Any]) -> None:
        self.runner.feed(x)

    def run(self) -> None:
        self.runner.run()

    def fetch(self) -> NDArray[Any]:
        answer: NDArray[Any] = self.runner.fetch().copy()
        answer[-1] *= 1 + self.share
        return answer


@pytest.mark.parametrize(
    ("index", "share", "wrong"), [(0, 1e-2, True), (1, 1e-4, False), (1, 0.5, True), (2, 1e-2, True)]
)
def test_a_wrong_answer_is_a_line_with_the_row_s_name(
    index: int, share: float, wrong: bool, proven: list[Subject]
) -> None:
    runner: Any = Off(make(proven[index], 1), share)
    told = repeat(proven[index], runner)["wrong"]
    assert bool(told) is wrong
    if wrong:
        assert told.startswith("torch.compile does not repeat its golden output photo") and "export" not in told


def test_a_batch_is_judged_by_its_worst_image() -> None:
    runner: Any = FakeRunner()
    x = np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(Alike(runner, 3)(x), 2 * x)
    off: Any = Off(runner, 1.0)
    np.testing.assert_array_equal(Alike(off, 3)(x), 4 * x)
