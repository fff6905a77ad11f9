"""Scores of anything that turns an image into logits: a network, or an artifact somebody wrapped in a function."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lightseg.errors import BadInput
from lightseg.spec import Labels, Preprocess
from lightseg.train import sheets
from lightseg.train.augment import Image, Size, squeeze
from lightseg.train.datasets import read, to_tensor
from lightseg.train.layouts import LAYOUTS, Pair, check_labels, merged
from lightseg.train.logs import write_csv
from lightseg.train.metrics import Counts, Interval, Scores, bootstrap, boundary_f1, class_ious, confusion, mean_iou
from lightseg.train.metrics import foreground_iou as person_iou

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""N×3×H×W preprocessed input → N×C×h×w logits."""


def of_network(net: nn.Module) -> Predict:
    """A PyTorch network as a `Predict`, on the device it lies on."""

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        device = next(net.parameters()).device
        with torch.inference_mode():
            logits: NDArray[np.float32] = net(torch.from_numpy(x).to(device)).float().cpu().numpy()
        return logits

    return predict


def class_map(logits: NDArray[np.float32], classes: int, size: Size | None = None) -> Image:
    """C×h×w logits to a map of class numbers: one channel means logit > 0, channels beyond ``classes`` are ignored.

    With ``size`` the logits are first enlarged to it (bilinear), as for networks that answer at half resolution.
    """
    if size is not None and logits.shape[1:] != size:
        layers = [cv2.resize(layer, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for layer in logits[:classes]]
        logits = np.stack(layers).astype(np.float32)
    if len(logits) == 1:
        found: Image = (logits[0] > 0).astype(np.uint8)
    else:
        found = logits[:classes].argmax(0).astype(np.uint8)
    return found


@dataclass(frozen=True)
class Task:
    """What is scored, and how: the pairs of a layout, at one input size, fed as the weights want it."""

    pairs: Sequence[Pair]
    layout: str
    size: Size
    preprocess: Preprocess
    labels: Labels
    noise: int = 0
    """Grey levels by which noise moves what a candidate sees, at most: what a camera or a JPEG does unasked."""

    def __post_init__(self) -> None:
        check_labels(self.layout, self.labels)

    @property
    def portrait(self) -> bool:
        return len(self.labels.names) == 2

    def sample(self, pair: Pair) -> tuple[Image, Image]:
        """Image and truth, squeezed to the input size (masks by nearest neighbour); the same noise at every call."""
        image, truth = squeeze(*read(pair, self.layout), self.size)
        if self.noise:
            rng = np.random.default_rng(zlib.crc32(pair.name.encode()))
            moved = image + rng.integers(-self.noise, self.noise, image.shape, np.int16, endpoint=True)
            image = np.clip(moved, 0, 255).astype(np.uint8)
        return image, truth

    def predict(self, predict: Predict, image: Image) -> Image:
        logits = predict(to_tensor(image, self.preprocess)[None].numpy())
        if logits.ndim != 4 or len(logits) != 1:
            raise BadInput(f"the model answered with shape {logits.shape} instead of 1×C×h×w logits")
        found = class_map(logits[0], len(self.labels.names), self.size)
        return merged(found, LAYOUTS[self.layout].merge)


@dataclass(frozen=True)
class Result:
    """Scores of one candidate, image by image and over the whole data set. All in per cent but the counts."""

    names: tuple[str, ...]
    sources: tuple[str, ...]
    iou: Scores
    """Per image: IoU of the person, or the mean IoU of the classes that occur in the image."""
    boundary: Scores
    """Per image: boundary F1 of the person; NaN for streets."""
    counts: Counts
    """Confusion counts, classes×(classes + 1), see `metrics.confusion`."""
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    """What the classes are called, all the network knows."""
    masks: tuple[Image, ...]
    """The map of class numbers answered for each image."""

    @property
    def score(self) -> float:
        """The figure papers report: mean per-image person IoU, or the confusion matrix's mean over classes."""
        return float(self.iou.mean()) if len(self.counts) == 2 else self.miou

    @property
    def miou(self) -> float:
        return 100 * mean_iou(self.counts, self.classes)

    def of(self, source: str) -> Scores:
        chosen: Scores = self.iou[np.array(self.sources) == source]
        return chosen

    def summary(self) -> dict[str, float | str]:
        """Every metric by its full name, with 95 % bootstrap intervals for the means over images."""
        out: dict[str, float | str] = {"images": len(self.names), "confusion_miou": self.miou}
        if len(self.counts) == 2:
            out |= _spread("per_image_person_iou", bootstrap(self.iou))
            out |= _spread("boundary_f1_3px", bootstrap(self.boundary))
            for source in sorted(set(self.sources) - {""}):
                out |= _spread(f"per_image_person_iou_{source}", bootstrap(self.of(source)))
        else:
            out |= {
                f"iou_class_{name}": 100 * float(v)
                for i, (name, v) in enumerate(zip(self.labels, class_ious(self.counts)))
                if i in self.classes
            }
        return out


def evaluate(predict: Predict, task: Task) -> Result:
    """Score every pair of the task, one image at a time."""
    classes, number = LAYOUTS[task.layout].classes, len(task.labels.names)
    ious, edges, masks, total = [], [], [], np.zeros((number, number + 1), np.int64)
    for pair in task.pairs:
        image, truth = task.sample(pair)
        predicted = task.predict(predict, image)
        masks.append(predicted)
        counts = confusion(predicted, truth, number)
        total += counts
        ious.append(person_iou(predicted, truth) if task.portrait else mean_iou(counts, classes))
        edges.append(boundary_f1(predicted, truth) if task.portrait else float("nan"))
    names, sources = tuple(p.name for p in task.pairs), tuple(p.source for p in task.pairs)
    iou, boundary = 100 * np.array(ious), 100 * np.array(edges)
    return Result(names, sources, iou, boundary, total, classes, task.labels.names, tuple(masks))


def compare(a: Result, b: Result) -> dict[str, Interval]:
    """b − a in points of per-image IoU with its paired 95 % interval, over all images and per source."""
    if a.names != b.names:
        raise BadInput("the two candidates were scored on different images; score both on the same data")
    difference = b.iou - a.iou
    parts = {"all": difference}
    for source in sorted(set(a.sources) - {""}):
        parts[source] = difference[np.array(a.sources) == source]
    return {name: bootstrap(values) for name, values in parts.items()}


@dataclass(frozen=True)
class Agreement:
    """How much of one candidate's masks another repeats, whatever the labels say. In per cent."""

    same_class: float
    """Pixels."""
    mean_iou: float
    """Over all pixels together, averaged over the classes the one finds, rare ones too."""

    def __str__(self) -> str:
        return f"{self.same_class:.2f} % of the pixels, mean IoU {self.mean_iou:.2f}"


def agreement(a: Result, b: Result) -> Agreement | None:
    """b's masks against a's on the same images; None where the two answer at different sizes."""
    if any(one.shape != other.shape for one, other in zip(a.masks, b.masks, strict=True)):
        return None
    counts = np.sum([confusion(other, one, len(a.labels)) for one, other in zip(a.masks, b.masks)], 0)
    found = np.flatnonzero(counts.sum(1))
    return Agreement(100 * float(counts.diagonal().sum() / counts.sum()), 100 * mean_iou(counts, found.tolist()))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names for files and columns: a weights file's own, or with its folders where another is called the same."""
    short = {name: re.sub(r"\.(safetensors|pth)$", "", Path(name).name) for name in names}
    taken = Counter(short.values())
    return {name: it if taken[it] == 1 else re.sub(r"[^\w.]+", "-", name).strip("-.") for name, it in short.items()}


def write_per_image(path: Path, results: dict[str, Result]) -> None:
    """One row per image with the scores of every candidate."""
    first = next(iter(results.values()))
    rows: list[dict[str, str | float]] = []
    for i, name in enumerate(first.names):
        row: dict[str, str | float] = {"image": name, "source": first.sources[i]}
        for label, result in results.items():
            row |= {
                f"{label}_iou": round(float(result.iou[i]), 4),
                f"{label}_boundary_f1": round(float(result.boundary[i]), 4),
            }
        rows.append(row)
    write_csv(path, rows)


def prediction_sheet(predict: Predict, task: Task, chosen: Sequence[int], columns: int = 3) -> Image:
    """Image, prediction and disagreement of the chosen pairs side by side, with the IoU above."""
    tiles = []
    for i in chosen:
        image, truth = task.sample(task.pairs[i])
        predicted = task.predict(predict, image)
        shown = sheets.overlay(image, predicted, task.labels)
        right = (
            sheets.disagreement(image, predicted, truth) if task.portrait else sheets.overlay(image, truth, task.labels)
        )
        iou = (
            person_iou(predicted, truth)
            if task.portrait
            else mean_iou(confusion(predicted, truth, len(task.labels.names)))
        )
        tile = np.concatenate([sheets.at_most(part) for part in (image, shown, right)], 1)
        tiles.append(sheets.captioned(tile, f"{task.pairs[i].name}  IoU {100 * iou:.2f}"))
    return sheets.grid(tiles, columns)


def worst(result: Result, count: int = 12) -> list[int]:
    """The indices of the images with the lowest IoU, worst first."""
    return [int(i) for i in np.argsort(result.iou)[:count]]


def _spread(name: str, interval: Interval) -> dict[str, float | str]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
