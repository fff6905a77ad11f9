"""The record of an artifact, read and looked over: whatever is wrong with it is one line before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightseg.errors import BadInput
from lightseg.export import artifact as files
from lightseg.export.artifact import Artifact, Golden
from lightseg.export.parity import ALLOWED
from lightseg.export.targets import target_of
from lightseg.spec import Preprocess

UNREADABLE = (RecursionError, SyntaxError, AttributeError, LookupError, ArithmeticError)
"""What Python's and NumPy's readers raise besides for text that is no record."""


def read_artifact(path: str | Path) -> Artifact:
    """The artifact at ``path`` (see `artifact.read_artifact`), each of whose facts is of its kind.

    Errors: `BadInput` when the file is missing or not the one the record describes, when the record is damaged, of
    another version or target, or holds no golden outputs: with nothing to repeat nothing would be proven.
    """
    path = Path(path)
    try:
        artifact = files.read_artifact(path)
    except UNREADABLE as error:
        raise BadInput(f"the record of {path} is damaged ({type(error).__name__}); export it again") from error
    wrong = next(_wrong(artifact), None)
    if wrong:
        raise BadInput(f"the record of {path} is damaged ({wrong}); export it again")
    return artifact


def _wrong(artifact: Artifact) -> Iterator[str]:
    target = target_of(artifact.path)
    if artifact.target != target.name:
        yield f"it is of target {artifact.target!r}, the file of {target.name}"
    if artifact.output not in list(ALLOWED):  # a list cannot be looked up in a table
        yield f"unknown output {artifact.output!r}"
    if len(artifact.input_shape) != 4 or not all(_whole(n, 1) for n in artifact.input_shape):
        yield f"input_shape {artifact.input_shape}"
        return
    if not _about(artifact.preprocess):
        yield f"preprocess {artifact.preprocess}"
    if not all(isinstance(word, str) for word in (artifact.model, artifact.tag)):
        yield f"model {artifact.model!r}, tag {artifact.tag!r}"
    if not isinstance(artifact.weights, dict) or not isinstance(artifact.weights.get("sha256"), str):
        yield f"weights {artifact.weights!r}"
    if len(artifact.labels.names) < 2 or len(artifact.labels.names) != len(artifact.labels.colours):
        yield f"{len(artifact.labels.names)} labels, {len(artifact.labels.colours)} colours"
    agreement: Any = artifact.tolerance.get("agreement") if isinstance(artifact.tolerance, dict) else None
    if not _number(agreement) or not 0 <= agreement <= 1:
        yield f"tolerance {artifact.tolerance}"
    if not artifact.golden:
        yield "it holds no golden outputs, so it proves nothing"
    for golden in artifact.golden:
        yield from _golden(golden, artifact.size)


def _golden(golden: Golden, size: tuple[int, int]) -> Iterator[str]:
    if golden.image.shape != (*size, 3) or golden.image.dtype != "uint8":
        yield f"a golden image is {golden.image.dtype} {golden.image.shape}, the file takes {size[0]}x{size[1]}"
    if golden.samples.ndim != 3 or not golden.samples.size or golden.mask.ndim != 2 or not golden.mask.size:
        yield "a golden output is empty"
    if not _whole(golden.stride, 1) or not _whole(golden.ties, 0):
        yield f"golden stride {golden.stride!r}, near ties {golden.ties!r}"
    if not _number(golden.largest) or not _number(golden.mean):
        yield f"golden limits {golden.largest!r}, {golden.mean!r}"


def _about(preprocess: Preprocess) -> bool:
    values = (*preprocess.mean, *preprocess.std)
    return len(values) == 6 and all(_number(v) for v in values) and all(preprocess.std)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
