"""Scores of models and artifacts on labelled images, by one set of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightseg.benchmarks.peers import PEERS, UNIT, as_logits, input_shape, known_as, peer_files
from lightseg.benchmarks.selection import is_foreign
from lightseg.errors import BadInput, Unsupported
from lightseg.export.answers import MASKS
from lightseg.export.record import read_artifact
from lightseg.export.reference import enlarge
from lightseg.export.runner import torch_runner
from lightseg.export.targets import TARGETS
from lightseg.export.verification import load
from lightseg.spec import PORTRAIT, Labels, Preprocess
from lightseg.train.evaluate import Predict, Task
from lightseg.train.layouts import pairs_in
from lightseg.zoo import create_model

WEIGHTS_FILES = {".safetensors", ".pth", ".pt"}


@dataclass(frozen=True)
class Candidate:
    """Something that turns an image into logits, with what it needs to be fed and read."""

    name: str
    """What the user called it."""
    predict: Predict
    size: tuple[int, int]
    preprocess: Preprocess
    labels: Labels


def candidate(text: str, size: tuple[int, int] | None = None, threads: int = 1) -> Candidate:
    """An artifact's file name, ``MODEL[.TAG]``, ``MODEL=WEIGHTS_FILE``, or a peer's name or file.

    Errors: `BadInput` and `UnknownName` as `read_artifact` and `create_model`; `Unsupported` for an artifact that
    returns probabilities, and for another ``size`` than an artifact was exported at.
    """
    if text in PEERS or is_foreign(Path(text)):
        return _peer(text, size, threads)
    if any(Path(text).suffix == target.suffix for target in TARGETS.values()):
        return _artifact(Path(text), size, threads)
    name, _, file = text.partition("=")
    if Path(text).suffix in WEIGHTS_FILES and not file:
        raise BadInput(f"{text} holds weights; say of which network, for instance sinet={text}")
    model = create_model(name, file or None)
    shape = size or model.spec.input_size
    model.spec.check_size(*shape)
    runner = torch_runner(model, threads)
    return Candidate(text, runner, shape, model.weights.preprocess, model.spec.labels)


def _artifact(path: Path, size: tuple[int, int] | None, threads: int) -> Candidate:
    artifact = read_artifact(path)
    if artifact.output == "probability":
        raise Unsupported(f"{path.name} returns a probability; scores need logits or a mask: export it again")
    if size is not None and size != artifact.size and not artifact.dynamic:
        raise Unsupported(f"{path.name} takes {artifact.size[0]}x{artifact.size[1]} only; leave --input-size out")
    shape, predict = size or artifact.size, load(path, threads)
    if artifact.output in MASKS:
        return Candidate(str(path), _of_masks(predict, shape, artifact.labels), shape, artifact.feeds, artifact.labels)
    return Candidate(str(path), predict, shape, artifact.feeds, artifact.labels)


def _peer(text: str, size: tuple[int, int] | None, threads: int) -> Candidate:
    """MediaPipe's networks: RGB in 0…1, squeezed to the input size as ours are, the chance of a person out."""
    (path,) = peer_files([text], lambda line: None)
    known = known_as(path)
    if known is None:
        raise Unsupported(f"what {path.name} answers is not known; scores need one of {', '.join(PEERS)}, or our files")
    height, width = input_shape(path)[2:]
    if size not in (None, (height, width)):
        raise Unsupported(f"{path.name} takes {height}x{width} only; leave --input-size out")
    return Candidate(text, as_logits(load(path, threads)), (height, width), UNIT, PORTRAIT)


def _of_masks(run: Predict, size: tuple[int, int], labels: Labels) -> Predict:
    """Classes as logits of 0 and 1; a mask at a part of ``size`` is enlarged by repeating its pixels."""

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        mask = enlarge(run(x)[:, 0], size)
        return np.asarray(mask[:, None] == np.arange(len(labels.names))[:, None, None], np.float32)

    return predict


def task_of(one: Candidate, data: Path, layout: str) -> Task:
    """The pairs in the folder ``data``, to be scored. Errors: `BadInput` when it holds none of that layout."""
    if not data.is_dir():
        raise BadInput(f"no folder {data}; give --data a folder with images/ and masks/")
    return Task(pairs_in(layout, data), layout, one.size, one.preprocess, one.labels)
