"""What a row must answer before it is timed: golden outputs, out of its artifact or written for a model in PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.architectures import ARCHITECTURES
from lightseg.benchmarks.timing.subject import Subject
from lightseg.errors import ParityError
from lightseg.export.artifact import Artifact
from lightseg.export.parity import TOLERANCE, check_goldens, limits
from lightseg.export.record import read_artifact
from lightseg.export.runner import Runner

if TYPE_CHECKING:
    from lightseg.export.reference import Reference

AGAIN = "; export it again"
LIKE = {"tf32": "fp16"}
"""Precisions that are judged as another one: TF32 has as many bits of mantissa as float16, and more range."""


def repeat(subject: Subject, runner: Runner) -> dict[str, Any]:
    """``wrong`` says in one line why the answers are not those of PyTorch in float64; empty when they are."""
    proof = read_proof(Path(subject.goldens)) if subject.goldens else read_artifact(Path(subject.path or ""))
    try:
        checked = check_goldens(_as_row(proof, subject), Alike(runner, subject.shape[0]))
    except ParityError as error:
        wrong = str(error)
        return {"wrong": wrong.removesuffix(AGAIN) if subject.goldens else wrong, "checked": []}
    return {"wrong": "", "checked": checked}


def _as_row(proof: Artifact, subject: Subject) -> Artifact:
    """The proof under the row's name where it did not travel with a file."""
    return replace(proof, path=Path(subject.runtime)) if subject.goldens else proof


class Alike(Runner):
    """A runner of batches fed with one image as often as a batch is long; it answers with the image that fits least."""

    def __init__(self, runner: Runner, batch: int) -> None:
        self._runner, self._batch = runner, batch
        self.name, self.details = runner.name, runner.details

    def feed(self, x: NDArray[Any]) -> None:
        self._runner.feed(np.repeat(x, self._batch, axis=0) if self._batch > 1 else x)

    def run(self) -> None:
        self._runner.run()

    def fetch(self) -> NDArray[Any]:
        answers = self._runner.fetch()
        if self._batch == 1:
            return answers
        off = np.abs(answers.astype(np.float64) - answers[:1]).reshape(len(answers), -1).max(1)
        worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
        return answers[worst : worst + 1]


def with_proofs(subjects: Sequence[Subject], folder: Path, announce: Callable[[str], None]) -> list[Subject]:
    """``subjects``, those in PyTorch with golden outputs that are written into ``folder``.

    A file has its own, but a float32 one with TF32 is judged by limits of TF32, which those are not. PyTorch eager in
    float32 on the processor is what goldens are made with and needs none.
    """
    models = {subject.label: subject for subject in subjects if subject.path is None}
    references: dict[tuple[Any, ...], Reference] = {}
    found = []
    for subject in subjects:
        if not needs_proof(subject):
            found.append(subject)
            continue
        model = replace(models[subject.label], shape=subject.shape)
        key = (model.model, model.weights, model.shape[2:])
        if key not in references:
            announce(f"computing what {subject.label} must answer, in float64 on the processor")
            references[key] = _reference(model)
        path = folder / f"{len(found)}.json"
        path.write_text(json.dumps(_proof(subject, references[key]).to_dict()), encoding="utf-8")
        found.append(replace(subject, goldens=str(path), proof=True))
    return found


def needs_proof(subject: Subject) -> bool:
    """Not where the answers mean nothing: random weights of other people's architectures."""
    if subject.path is not None:
        return subject.precision in LIKE
    if subject.model in ARCHITECTURES:
        return False
    return subject.device != "cpu" or subject.compiled or subject.precision != "fp32"


def read_proof(path: Path) -> Artifact:
    """What `with_proofs` wrote."""
    return Artifact.from_dict(path, json.loads(path.read_text(encoding="utf-8")))


def _reference(subject: Subject) -> Reference:
    from lightseg.export.reference import Reference
    from lightseg.zoo import create_model

    assert subject.model is not None
    return Reference(create_model(subject.model, subject.weights), subject.shape[2], subject.shape[3])


def _proof(subject: Subject, reference: Reference) -> Artifact:
    """Golden outputs in the shape of an artifact's record, so that one function checks both."""
    precision = LIKE.get(subject.precision, subject.precision)
    tolerance, spec, weights = TOLERANCE[precision], reference.model.spec, reference.model.weights
    height, width = reference.size
    return Artifact(
        path=Path(subject.runtime),
        model=spec.name,
        tag=weights.tag,
        target=subject.runtime,
        precision=subject.precision,
        output="logits",
        baked=False,
        dynamic=False,
        input_shape=(1, 3, height, width),
        output_shape=tuple(reference.logits["photo"].shape),
        layout={},
        preprocess=weights.preprocess,
        labels=spec.labels,
        multiple=spec.multiple,
        weights={},
        tolerance=dict(tolerance),
        golden=reference.goldens(limits(tolerance, reference.distances(precision))),
    )
