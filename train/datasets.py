"""The samples a training run draws from image and mask pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lightseg.errors import BadInput
from lightseg.spec import Preprocess
from lightseg.train.augment import Image, Size, drawn_by, settled
from lightseg.train.layouts import LAYOUTS, PERSON, Pair, class_table
from lightseg.train.recipe import Recipe


def split(pairs: Sequence[Pair], holdout: float) -> tuple[list[Pair], list[Pair]]:
    """(kept, held out): by a hash of the name, so that the division survives new files and other machines."""

    def held(pair: Pair) -> bool:
        return int(hashlib.sha256(pair.name.encode()).hexdigest()[:8], 16) / 16**8 < holdout

    return [p for p in pairs if not held(p)], [p for p in pairs if held(p)]


def read(pair: Pair, layout: str = "pairs", longest: int = 0) -> tuple[Image, Image]:
    """The RGB image and the map of class numbers, reduced until the longer side is ``longest`` pixels.

    Errors: `BadInput` naming the file that is missing, damaged or of another size than its partner.
    """
    for path in (pair.image, pair.mask):
        if not path.is_file():
            raise BadInput(f"{path} is missing; fetch it again (--check-data lists all broken files)")
    image, mask = cv2.imread(str(pair.image), cv2.IMREAD_COLOR), _stored(pair.mask)
    for path, data in ((pair.image, image), (pair.mask, mask)):
        if data is None:
            raise BadInput(f"{path} cannot be read as an image; fetch it again (--check-data lists all broken files)")
    assert image is not None and mask is not None
    if image.shape[:2] != mask.shape[:2]:
        (h, w), (mh, mw) = image.shape[:2], mask.shape[:2]
        raise BadInput(f"{pair.image} is {h}x{w}, but its mask {pair.mask} {mh}x{mw}; --check-data lists all of them")
    image, mask = cv2.cvtColor(image, cv2.COLOR_BGR2RGB), _classes(mask, layout, pair.mask)
    h, w = mask.shape
    if longest and max(h, w) > longest:
        to = (round(w * longest / max(h, w)), round(h * longest / max(h, w)))
        image = cv2.resize(image, to, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, to, interpolation=cv2.INTER_NEAREST_EXACT)
    return image.astype(np.uint8, copy=False), mask.astype(np.uint8, copy=False)


def _stored(path: Path) -> Image | None:
    """The numbers a mask's file holds: grey levels, or the indices of a palette. Errors: `BadInput` for colours."""
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim == 2 or (mask[..., :3] == mask[..., :1]).all():
        return None if mask is None else _eight_bits(mask if mask.ndim == 2 else mask[..., 0])
    with PIL.Image.open(path) as file:  # OpenCV shows a palette's colours and not its indices
        if file.mode == "P":
            return np.asarray(file, np.uint8)
    raise BadInput(f"{path} is coloured; a mask holds one number per pixel (--check-data lists all broken files)")


def _eight_bits(mask: NDArray[np.integer]) -> Image:
    return (mask // 256 if mask.dtype == np.uint16 else mask).astype(np.uint8)


def _classes(mask: Image, layout: str, path: Path) -> Image:
    """Class numbers of what a mask's file holds. Errors: `BadInput` where that cannot be what ``layout`` means."""
    table, brightest = class_table(layout, path), int(mask.max())
    if LAYOUTS[layout].classes == PERSON and brightest and not table[: brightest + 1].any():
        raise BadInput(f"{path} has values up to {brightest}; layout {layout} takes 0, and 255 for the person")
    found: Image = table[mask]
    return found


def to_tensor(image: Image, preprocess: Preprocess) -> Tensor:
    """3×H×W float32 input of the network from an RGB image."""
    if preprocess.order == "BGR":
        image = image[..., ::-1]
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(((image - mean) / std).transpose(2, 0, 1), dtype=np.float32))


Key = tuple[int, int]
"""Pass over the data (an epoch has one per scale), index into the pairs."""


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented (input, class map) for a key; the key and the seed decide everything, so any worker gives the same.

    The class map is H×W, or H×W×2 where there is a teacher: see ``taught``.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        recipe: Recipe,
        preprocess: Preprocess,
        multiple: int = 1,
        like: Samples | None = None,
    ) -> None:
        """``multiple`` is the network's; ``like`` lends its decoded images to another recipe on the same pairs."""
        self.pairs, self.recipe, self.preprocess, self.multiple = pairs, recipe, preprocess, multiple
        self.sizes = [_scaled(recipe, s, multiple) for s in recipe.scales]
        self.memory: list[tuple[Image, Image]] | None = like.memory if like else None
        self.taught: Sequence[Image] | None = like.taught if like else None
        """Of each image, 255 × the probability of class 1 a teacher gives it; at the size of the image in memory."""
        if recipe.cache and not like:
            self.memory = [read(p, recipe.layout, recipe.cache_size) for p in pairs]

    def under(self, recipe: Recipe) -> Samples:
        """The same images drawn as another recipe says."""
        return Samples(self.pairs, recipe, self.preprocess, self.multiple, like=self)

    def __len__(self) -> int:
        return len(self.pairs)

    def raw(self, index: int) -> tuple[Image, Image]:
        return (
            self.memory[index] if self.memory else read(self.pairs[index], self.recipe.layout, self.recipe.cache_size)
        )

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        turn, index = key
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, turn, index))
        epoch, scale = divmod(turn, len(self.sizes))
        calm = epoch >= round(recipe.epochs * (1 - recipe.settle))
        augment = settled if calm else drawn_by(recipe.augment, recipe.zoom)
        image, mask = self.raw(index)
        if self.taught:
            mask = np.dstack([mask, self.taught[index]])
        image, mask = augment(image, mask, self.sizes[scale], rng, lambda: self.raw(int(rng.integers(len(self)))))
        return to_tensor(image, self.preprocess), torch.from_numpy(mask.astype(np.int64))


def _scaled(recipe: Recipe, scale: float, multiple: int) -> Size:
    """Height and width at ``scale``, at the nearest size the network takes."""
    h, w = (max(multiple, round(v * scale / multiple) * multiple) for v in (recipe.height, recipe.width))
    return h, w


class Order(Sampler[list[Key]]):
    """Batches of keys for one epoch: a permutation per pass decided by seed and pass, shared out to the ranks.

    Every rank takes its stripe of each global batch, so that the same images meet in a step however many processes
    there are. ``start`` skips the steps a resumed run has done. The incomplete last batch of a pass is left out.
    """

    def __init__(self, count: int, batch: int, seed: int, passes: int = 1, rank: int = 0, world: int = 1) -> None:
        if count < batch:
            raise BadInput(
                f"{count} training pairs do not fill a batch of {batch}; set batch (in an encoder stage encoder_batch) "
                f"to {max(1, count)} or less"
            )
        if batch % world:
            raise BadInput(
                f"a batch of {batch} cannot be shared by {world} processes; set batch to a multiple of {world}"
            )
        self.count, self.batch, self.seed, self.passes = count, batch, seed, passes
        self.rank, self.world = rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.count // self.batch * self.passes

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, len(self)):
            scale, batch = divmod(step, self.count // self.batch)
            turn = self.epoch * self.passes + scale
            order = np.random.default_rng((self.seed, turn)).permutation(self.count)
            chosen = order[batch * self.batch : (batch + 1) * self.batch][self.rank :: self.world]
            yield [(turn, int(i)) for i in chosen]
