"""Distillation: what several trained networks say together about the images a smaller one is learning from.

Teachers are networks of ours, or somebody else's ``.tflite`` files. One network's answers for an image, for its mirror
image and for the image at another size differ by chance, and their mean is better than any one of them. The teachers
answer once per training image, before training; the answer then goes through the same geometry as the label, so that a
step of training costs what it costs without them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lightseg.errors import BadInput, MissingExtra
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
        """Networks and sizes are the recipe's.

        Errors: `BadInput` for more than two classes, and for files that are no teachers; `UnknownName`; `MissingExtra`.
        """
        if len(find_spec(recipe.model).labels.names) != 2:
            raise BadInput(
                f"{recipe.model} knows more than two classes, teachers are for portraits: leave teachers out"
            )
        self.files = [File(Path(name)) for name in recipe.teachers if _is_file(name)]
        names = [name for name in recipe.teachers if not _is_file(name)]
        models = [create_model(name, weights or None) for name, _, weights in (n.partition("=") for n in names)]
        for name, model in zip(names, models):
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
            self._probability(net, to_tensor(squeeze(image, image, size)[0], preprocess))
            for net, preprocess, its_sizes in self.networks
            for size in its_sizes
        ]
        answers += [file(image) for file in self.files]
        mean = np.mean([cv2.resize(answer, image.shape[1::-1]) for answer in answers], 0)
        found: Image = np.rint(255 * np.clip(mean, 0, 1)).astype(np.uint8)
        return found

    def _probability(self, net: nn.Module, x: Tensor) -> NDArray[np.float32]:
        both = torch.stack([x, x.flip(2)]).to(self._device)
        logits = F.interpolate(as_two_classes(net(both).float()), x.shape[1:], mode="bilinear")
        person = torch.softmax(logits[:, :2], 1)[:, 1]
        return np.asarray(((person[0] + person[1].flip(1)) / 2).cpu().numpy(), np.float32)


class File:
    """A ``.tflite`` network as MediaPipe's for portraits: an RGB image in 0…1 in, the probability of a person out."""

    def __init__(self, path: Path) -> None:
        """Errors: `MissingExtra`; `BadInput` for a file that is missing, damaged or of another kind."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtra("a .tflite teacher", "tflite", "ai-edge-litert") from error
        if not path.is_file():
            raise BadInput(f"no teacher {path}; name a .tflite file that is there, or a model")
        try:
            self._runtime = Interpreter(str(path))
            self._runtime.allocate_tensors()
            (self._input,), (self._output,) = self._runtime.get_input_details(), self._runtime.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"{path} cannot be a teacher ({' '.join(str(error).split())})") from error
        taken, given = [int(n) for n in self._input["shape"]], [int(n) for n in self._output["shape"]]
        floats = self._input["dtype"] == self._output["dtype"] == np.float32
        if not floats or len(taken) != 4 or taken[::3] != [1, 3] or len(given) != 4 or given[::3] != [1, 1]:
            kinds = [np.dtype(end["dtype"]).name for end in (self._input, self._output)]
            raise BadInput(
                f"{path} turns {kinds[0]} {taken} into {kinds[1]} {given}; a teacher turns float32 1×H×W×3 into 1×H×W×1"
            )
        self._size = taken[1], taken[2]

    def __call__(self, image: Image) -> NDArray[np.float32]:
        small = squeeze(image, image, self._size)[0]
        flipped = self._probability(np.ascontiguousarray(small[:, ::-1]))
        return np.asarray((self._probability(small) + flipped[:, ::-1]) / 2, np.float32)

    def _probability(self, small: Image) -> NDArray[np.float32]:
        self._runtime.set_tensor(self._input["index"], small[None].astype(np.float32) / 255)
        self._runtime.invoke()
        return np.asarray(self._runtime.get_tensor(self._output["index"])[0, ..., 0], np.float32).copy()


def _is_file(name: str) -> bool:
    return name.endswith(".tflite")


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
