"""Image and mask pairs on disk, and the samples a training run draws from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lightseg.errors import BadInput
from lightseg.spec import Preprocess
from lightseg.train import augment
from lightseg.train.recipe import Recipe

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """One image and its mask; ``source`` names the data set it comes from where that is known."""

    name: str
    image: Path
    mask: Path
    source: str = ""


def find_pairs(folder: Path) -> list[Pair]:
    """The pairs of a folder with ``images/`` and ``masks/``, and a ``manifest.json`` where there is one."""
    if not (folder / "images").is_dir() or not (folder / "masks").is_dir():
        raise BadInput(f"{folder} has no images/ and masks/; put name.jpg and name.png there, or pass another --data DIR")
    manifest = folder / "manifest.json"
    if manifest.is_file():
        items = json.loads(manifest.read_text(encoding="utf-8"))["items"]
        return [Pair(i["id"], folder / i["image"], folder / i["mask"], i.get("source", "")) for i in items]
    masks = {p.stem: p for p in sorted((folder / "masks").iterdir())}
    images = [p for p in sorted((folder / "images").iterdir()) if p.stem in masks]
    return [Pair(p.stem, p, masks[p.stem]) for p in images]


def split(pairs: Sequence[Pair], holdout: float) -> tuple[list[Pair], list[Pair]]:
    """(kept, held out): by a hash of the name, so that the division survives new files and other machines."""

    def held(pair: Pair) -> bool:
        return int(hashlib.sha256(pair.name.encode()).hexdigest()[:8], 16) / 16**8 < holdout

    return [p for p in pairs if not held(p)], [p for p in pairs if held(p)]


def read(pair: Pair, longest: int = 0) -> tuple[Image, Image]:
    """The RGB image and the class map (0 background, 1 person), reduced until the longer side is ``longest``."""
    image, mask = cv2.imread(str(pair.image), cv2.IMREAD_COLOR), cv2.imread(str(pair.mask), cv2.IMREAD_GRAYSCALE)
    for path, data in ((pair.image, image), (pair.mask, mask)):
        if data is None:
            raise BadInput(f"{path} cannot be read as an image; fetch it again (--check-data lists all broken files)")
    if image.shape[:2] != mask.shape[:2]:
        raise BadInput(f"{pair.name}: the image is {image.shape[:2]}, the mask {mask.shape[:2]}; run --check-data")
    image, mask = cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (mask > 200).astype(np.uint8)
    h, w = mask.shape
    if longest and max(h, w) > longest:
        to = (round(w * longest / max(h, w)), round(h * longest / max(h, w)))
        image = cv2.resize(image, to, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, to, interpolation=cv2.INTER_NEAREST)
    return image.astype(np.uint8, copy=False), mask.astype(np.uint8, copy=False)


def to_tensor(image: Image, preprocess: Preprocess) -> Tensor:
    """3×H×W float32 input of the network from an RGB image."""
    if preprocess.order == "BGR":
        image = image[..., ::-1]
    mean, std = np.float32(preprocess.mean), np.float32(preprocess.std)
    return torch.from_numpy(np.ascontiguousarray(((image - mean) / std).transpose(2, 0, 1), dtype=np.float32))


Key = tuple[int, int]
"""Epoch, index into the pairs."""


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented (input, class map) for an (epoch, index) key; the key and the seed decide everything."""

    def __init__(self, pairs: Sequence[Pair], recipe: Recipe, preprocess: Preprocess) -> None:
        self.pairs, self.recipe, self.preprocess = pairs, recipe, preprocess
        self.memory = [read(p, recipe.cache_size) for p in pairs] if recipe.cache else None

    def __len__(self) -> int:
        return len(self.pairs)

    def raw(self, index: int) -> tuple[Image, Image]:
        return self.memory[index] if self.memory else read(self.pairs[index], self.recipe.cache_size)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        epoch, index = key
        rng = np.random.default_rng((self.recipe.seed, epoch, index))
        size = (self.recipe.height, self.recipe.width)
        image, mask = self.raw(index)
        if epoch >= round(self.recipe.epochs * (1 - self.recipe.settle)):
            image, mask = augment.settled(image, mask, size, rng)
        else:
            image, mask = augment.portrait(image, mask, lambda: self.raw(int(rng.integers(len(self)))), size, rng)
        return to_tensor(image, self.preprocess), torch.from_numpy(mask.astype(np.int64))


class Order(Sampler[list[Key]]):
    """Batches of keys for one epoch: a permutation decided by seed and epoch, shared out to the ranks.

    Every rank takes its stripe of each global batch, so that the same images meet in a step however many processes
    there are. ``start`` skips the steps a resumed run has done. The incomplete last batch is left out.
    """

    def __init__(self, count: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if count < batch:
            raise BadInput(f"{count} training pairs do not fill one batch of {batch}; set batch={max(1, count)} or less")
        self.count, self.batch, self.seed, self.rank, self.world = count, batch, seed, rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.count // self.batch

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        for step in range(self.start, len(self)):
            chosen = order[step * self.batch : (step + 1) * self.batch][self.rank :: self.world]
            yield [(self.epoch, int(i)) for i in chosen]
