"""Mean, deviation and class shares of a folder of pairs, kept in a file so that they are counted once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightseg.errors import BadInput
from lightseg.files import atomic_path
from lightseg.spec import Preprocess
from lightseg.train.datasets import read
from lightseg.train.layouts import Pair


@dataclass(frozen=True)
class Statistics:
    """Sums over all pixels of a folder; RGB order, 0–255."""

    images: int
    pixels: int
    total: tuple[float, float, float]
    squares: tuple[float, float, float]
    classes: tuple[int, ...]
    """Pixels of each of the 256 possible class numbers; the last is void."""

    @property
    def mean(self) -> tuple[float, float, float]:
        r, g, b = (t / self.pixels for t in self.total)
        return r, g, b

    @property
    def std(self) -> tuple[float, float, float]:
        r, g, b = ((s / self.pixels - m * m) ** 0.5 for s, m in zip(self.squares, self.mean))
        return r, g, b

    def preprocess(self) -> Preprocess:
        return Preprocess("RGB", self.mean, self.std)

    def class_counts(self, classes: int) -> Tensor:
        return torch.tensor(self.classes[:classes])


def count(pairs: Sequence[Pair], layout: str) -> Statistics:
    """Read every pair and add up."""
    pixels, total, squares, classes = 0, np.zeros(3), np.zeros(3), np.zeros(256, np.int64)
    for pair in pairs:
        image, mask = read(pair, layout)
        flat = image.reshape(-1, 3).astype(np.float64)
        pixels += len(flat)
        total += flat.sum(0)
        squares += (flat**2).sum(0)
        classes += np.bincount(mask.ravel(), minlength=256)
    if not pixels:
        raise BadInput("no pixels to count; pass a folder with pairs")
    return Statistics(len(pairs), pixels, _three(total), _three(squares), tuple(classes.tolist()))


def joined(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of several folders together."""
    return Statistics(
        sum(p.images for p in parts),
        sum(p.pixels for p in parts),
        _three(np.sum([p.total for p in parts], 0)),
        _three(np.sum([p.squares for p in parts], 0)),
        tuple(int(v) for v in np.sum([p.classes for p in parts], 0)),
    )


def kept(file: Path, pairs: Sequence[Pair], layout: str) -> Statistics:
    """The statistics in ``file`` where it was counted from as many pairs, else counted now and written there."""
    if file.is_file():
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["images"] == len(pairs):
            total, squares, classes = (tuple(data[k]) for k in ("total", "squares", "classes"))
            return Statistics(data["images"], data["pixels"], total, squares, classes)
    found = count(pairs, layout)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _three(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
