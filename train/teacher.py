"""Distillation: what several trained networks say together about the images a smaller one is learning from.

One network's answers for an image, for its mirror image and for the image at another size differ by chance, and their
mean is better than any one of them. The teachers answer once per training image, before training; the answer then goes
through the same geometry as the label, so that a step of training costs what it costs without them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightseg.errors import BadInput
from lightseg.files import atomic_path
from lightseg.spec import Preprocess
from lightseg.train.augment import Image, Size, squeeze
from lightseg.train.datasets import Samples, to_tensor
from lightseg.train.logs import Log
from lightseg.train.losses import as_two_classes
from lightseg.train.recipe import Recipe
from lightseg.zoo import create_model, find_spec

FILE = "taught.npz"
"""The answers, beside the checkpoint: a resumed run learns from the same, whatever became of the teachers."""


class Teacher:
    """The mean probability of class 1 over networks, image sizes and mirror images."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Networks and sizes are the recipe's. Errors: `BadInput` for more than two classes, `UnknownName`."""
        if len(find_spec(recipe.model).labels.names) != 2:
            raise BadInput(
                f"{recipe.model} knows more than two classes, teachers are for portraits: leave teachers out"
            )
        models = [create_model(name) for name in recipe.teachers]
        for name, model in zip(recipe.teachers, models):
            if len(model.spec.labels.names) != 2:
                raise BadInput(f"{name} knows more than two classes; teachers are for portraits: leave teachers out")
        self.networks: list[tuple[nn.Module, Preprocess, list[Size]]] = [
            (m.net.eval().to(device), m.weights.preprocess, sizes(recipe, m.spec.multiple)) for m in models
        ]
        self._device = device

    @torch.inference_mode()
    def __call__(self, image: Image) -> Image:
        """An RGB image (H×W×3) → 255 times the probability, H×W."""
        answers = [
            cv2.resize(
                self._probability(net, to_tensor(squeeze(image, image, size)[0], preprocess)), image.shape[1::-1]
            )
            for net, preprocess, its_sizes in self.networks
            for size in its_sizes
        ]
        found: Image = np.rint(255 * np.mean(answers, 0)).astype(np.uint8)
        return found

    def _probability(self, net: nn.Module, x: Tensor) -> np.typing.NDArray[np.float32]:
        both = torch.stack([x, x.flip(2)]).to(self._device)
        logits = F.interpolate(as_two_classes(net(both).float()), x.shape[1:], mode="bilinear")
        person = torch.softmax(logits[:, :2], 1)[:, 1]
        return np.asarray(((person[0] + person[1].flip(1)) / 2).cpu().numpy(), np.float32)


def sizes(recipe: Recipe, multiple: int) -> list[Size]:
    """The sizes a teacher sees an image at: the recipe's times each of its ``teacher_scales``."""

    def at(side: int, scale: float) -> int:
        return max(multiple, round(side * scale / multiple) * multiple)

    return [(at(recipe.height, s), at(recipe.width, s)) for s in recipe.teacher_scales]


def answers(teacher: Teacher, samples: Samples, log: Log) -> list[Image]:
    """What ``teacher`` says about every image of ``samples``, in their order."""
    found = []
    for index in range(len(samples)):
        found.append(teacher(samples.raw(index)[0]))
        log.taught(index + 1, len(samples))
    return found


def write(path: Path, names: Sequence[str], taught: Sequence[Image]) -> None:
    """Keep the answers for the pairs called ``names``. Errors: `OutputError`."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{_key(name): answer for name, answer in zip(names, taught)})  # type: ignore[arg-type]


def read(path: Path, names: Sequence[str]) -> list[Image]:
    """The answers of a run's file, by the names of the pairs. Errors: `BadInput` when it is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return [stored[_key(name)] for name in names]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is damaged or of other data; delete it, and the teachers are asked again") from error


def _key(name: str) -> str:
    """A pair's name in the file: never one of ``savez``'s own keywords."""
    return f"pair/{name}"
