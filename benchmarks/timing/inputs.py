"""Images to rotate through: real photographs as the network receives them, so that values lie in its real range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightseg.images import Photo, normalise, read_photo, resize, sample_photo
from lightseg.spec import Preprocess

INPUT_BYTES = 256 * 1024 * 1024
"""More images than fit here are not kept ready: they would only push each other out of every cache and swap."""

OWN_SIZE, OWN_BYTES = 8, 64 * 1024 * 1024
"""Photographs at their own size: how many at most, and how many bytes of them."""


def how_many(shape: Sequence[int], wanted: int) -> int:
    """``wanted``, or as many float32 images of ``shape`` as `INPUT_BYTES` holds, but at least three."""
    return max(3, min(wanted, INPUT_BYTES // (4 * int(np.prod(shape)))))


def photographs(count: int, size: tuple[int, int], folder: Path | None = None, seed: int = 0) -> list[Photo]:
    """``count`` different H×W×3 uint8 pictures: the folder's own in turn, or cut from the packaged portrait.

    Every picture is a seeded crop, flip and change of exposure, so that one photograph gives many inputs.
    Errors: `BadInput` for a folder without a readable picture.
    """
    sources = [read_photo(path) for path in _files(folder, count)]
    random = np.random.default_rng(seed)
    return [_variant(sources[i % len(sources)], size, random) for i in range(count)]


def own_size(folder: Path | None = None, seed: int = 1) -> list[Photo]:
    """Different pictures as large as the folder's own, or as the packaged portrait; as many as `OWN_BYTES` hold."""
    sources = [read_photo(path) for path in _files(folder, OWN_SIZE)]
    count = max(2, min(OWN_SIZE, OWN_BYTES // max(photo.nbytes for photo in sources)))
    random = np.random.default_rng(seed)
    chosen = [sources[i % len(sources)] for i in range(count)]
    return [_variant(photo, (photo.shape[0], photo.shape[1]), random) for photo in chosen]


def network_inputs(photos: Sequence[Photo], preprocess: Preprocess | None, batch: int = 1) -> list[NDArray[np.float32]]:
    """The photographs as N×3×H×W float32: preprocessed, or as RGB pixel values where ``preprocess`` is None.

    In a batch every photograph stands with its neighbours in the rotation.
    """
    pixels = [np.ascontiguousarray(p.astype(np.float32).transpose(2, 0, 1)[None]) for p in photos]
    single = pixels if preprocess is None else [normalise(p, preprocess) for p in pixels]
    if batch == 1:
        return single
    return [np.concatenate([single[(i + j) % len(single)] for j in range(batch)]) for i in range(len(single))]


def _files(folder: Path | None, count: int) -> list[Path]:
    if folder is None:
        return [sample_photo()]
    from lightseg.errors import BadInput

    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not found:
        raise BadInput(f"no pictures (jpg, png, webp) in {folder}; give a folder of photographs to --images")
    return found[:count]


def _variant(photo: Photo, size: tuple[int, int], random: np.random.Generator) -> Photo:
    height, width = photo.shape[:2]
    share = random.uniform(0.6, 1.0)
    rows, columns = int(height * share), int(width * share)
    top, left = (int(random.integers(0, whole - part + 1)) for whole, part in ((height, rows), (width, columns)))
    cut = photo[top : top + rows, left : left + columns]
    cut = cut[:, ::-1] if random.random() < 0.5 else cut
    exposed = np.clip(cut * random.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
    return resize(exposed, size)
