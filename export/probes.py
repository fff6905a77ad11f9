"""The images every proof is made with: a real photograph, the extremes, and pictures on which the network wavers.

All are H×W×3 uint8 RGB at the network's input size, so that the values it sees are in the range it was trained on and
the same pack serves artifacts with and without preprocessing inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightseg.images import normalise, read_photo, resize, sample_photo
from lightseg.spec import Preprocess

if TYPE_CHECKING:
    from torch import nn

Image = NDArray[np.uint8]
SEED = 20261122
NATURAL = ("photo", "scene")
"""The probes that look like what the networks are for; on the others a class is often a toss-up."""


def probe_pack(height: int, width: int) -> dict[str, Image]:
    """The probes that need no network, by name."""
    photo = resize(read_photo(sample_photo()), (height, width))
    noise = np.random.default_rng(SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return {
        "photo": photo,
        "scene": scene(height, width),
        "noise": noise,
        "constant": np.full((height, width, 3), 128, np.uint8),
        "checkerboard": checkerboard(height, width),
        "saturated": np.full((height, width, 3), 255, np.uint8),
    }


def checkerboard(height: int, width: int, cell: int = 8) -> Image:
    rows, columns = np.indices((height, width)) // cell
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[:, :, None], 3, 2)


def scene(height: int, width: int) -> Image:
    """A drawn picture with flat areas, a gradient, slanted edges and a figure; it compresses to a few kilobytes."""
    y, x = np.indices((height, width)) / np.array([height, width]).reshape(2, 1, 1)
    image = np.empty((height, width, 3), np.uint8)
    image[...] = (235 - 90 * y).astype(np.uint8)[:, :, None]  # sky
    image[y > 0.55] = (96, 92, 90)  # ground
    image[(y > 0.55) & (np.abs(x - 0.5) < 0.04 + 0.5 * (y - 0.55))] = (128, 64, 128)  # road
    image[(y > 0.25) & (y < 0.6) & (x < 0.22)] = (150, 75, 50)  # house
    image[((x - 0.86) / 0.1) ** 2 + ((y - 0.35) / 0.17) ** 2 < 1] = (60, 120, 45)  # tree
    image[((x - 0.5) / 0.19) ** 2 + ((y - 0.98) / 0.42) ** 2 < 1] = (40, 50, 120)  # shoulders
    image[((x - 0.5) / 0.09) ** 2 + ((y - 0.42) / 0.15) ** 2 < 1] = (222, 176, 148)  # head
    return image


def near_tie(network: nn.Module, preprocess: Preprocess, start: Image, steps: int = 2, step: float = 12.0) -> Image:
    """``start`` moved, at most ``steps · step`` grey levels, to where the network can hardly decide.

    Signed gradient descent on the mean squared margin between the two best classes, in pixel units.
    """
    import torch

    pixels = start.astype(np.float32)
    for _ in range(steps):
        x = torch.from_numpy(normalise(pixels.transpose(2, 0, 1)[None], preprocess)).requires_grad_()
        logits = network(x)
        best = logits.topk(2, 1).values if logits.shape[1] > 1 else torch.cat([logits, torch.zeros_like(logits)], 1)
        (gradient,) = torch.autograd.grad((best[:, 0] - best[:, 1]).square().mean(), x)
        towards = gradient[0].sign().numpy().transpose(1, 2, 0)
        towards = towards[:, :, ::-1] if preprocess.order == "BGR" else towards
        pixels = np.clip(pixels - step * towards, 0, 255)
    return np.rint(pixels).astype(np.uint8)
