"""Sheets of small pictures as PNG: data with their masks, predictions beside the truth, the worst cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lightseg.files import atomic_path
from lightseg.spec import Labels
from lightseg.train.augment import Image

CAPTION = 14
WIDEST = 512
"""Pixels of a picture's longer side on a sheet."""


def overlay(image: Image, classes: NDArray[np.integer], labels: Labels, strength: float = 0.5) -> Image:
    """The image with every class but 0 of a portrait, or all classes of a street, tinted; void stays as it is."""
    colours = np.array(labels.colours, np.float32)
    tinted = (classes < len(colours)) & ((classes > 0) | (len(colours) > 2))
    out = image.astype(np.float32)
    out[tinted] = (1 - strength) * out[tinted] + strength * colours[classes[tinted]]
    return out.astype(np.uint8)


def disagreement(image: Image, predicted: NDArray[np.integer], truth: NDArray[np.integer]) -> Image:
    """Grey image; red where the person is missing from the prediction, blue where it was added."""
    grey: Image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    grey[(truth == 1) & (predicted != 1)] = (230, 40, 40)
    grey[(truth != 1) & (truth != 255) & (predicted == 1)] = (40, 80, 240)
    return grey


def at_most(image: Image, longest: int = WIDEST) -> Image:
    """The image, reduced where its longer side has more than ``longest`` pixels."""
    h, w = image.shape[:2]
    if max(h, w) <= longest:
        return image
    to = (max(1, round(w * longest / max(h, w))), max(1, round(h * longest / max(h, w))))
    small: Image = cv2.resize(image, to, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return small


def captioned(tile: Image, text: str) -> Image:
    bar = np.full((CAPTION, tile.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (2, CAPTION - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([bar, tile])


def grid(tiles: Sequence[Image], columns: int) -> Image:
    """Tiles in rows, each padded with white to the largest."""
    h, w = max(t.shape[0] for t in tiles), max(t.shape[1] for t in tiles)
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * h, columns * w, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * h, i % columns * w
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet


def write_png(path: Path, image: Image) -> None:
    """Write an RGB image or a class map. Errors: `OutputError`."""
    data = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, encoded = cv2.imencode(".png", data)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
