"""Folders of small photographs for tests, all different."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lightseg.export.probes import scene
from lightseg.images import read_photo, sample_photo


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """``count`` cut-outs of the sample photo and of the drawn scene, with noise that makes each one's bytes its own."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    whole = (read_photo(sample_photo()), scene(512, 512))
    for i in range(count):
        top, left = random.integers(0, 256, 2)
        cut = whole[i % 2][top : top + 256, left : left + 256].astype(int)
        noisy = (cut + random.integers(-8, 9, cut.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).resize((96, 96)).save(folder / f"{seed}_{i:03}.png")
    return folder


def write_masks(images: Path) -> Path:
    """A mask of the right half for every image, in masks/ beside images/."""
    masks = images.parent / "masks"
    masks.mkdir()
    half = np.zeros((96, 96), np.uint8)
    half[:, 48:] = 255
    for file in images.iterdir():
        Image.fromarray(half).save(masks / file.name)
    return masks
