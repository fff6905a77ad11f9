"""Procedural portraits and streets: a first run without any data, and data for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, OutputError
from lightseg.files import atomic_path
from lightseg.train.augment import Image, Rng, Size

Colour = tuple[int, int, int]
NOTE = "procedural"
"""What the manifest of a generated folder says of itself."""


def portrait(rng: Rng, size: Size) -> tuple[Image, Image]:
    """A head, hair and shoulders before a cluttered background; mask 255 on the person."""
    h, w = size
    image, mask = _clutter(rng, size), np.zeros(size, np.uint8)
    cx, cy = int(w * rng.uniform(0.35, 0.65)), int(h * rng.uniform(0.3, 0.45))
    head = (int(w * rng.uniform(0.13, 0.2)), int(h * rng.uniform(0.13, 0.19)))
    shoulder = (int(w * rng.uniform(0.3, 0.45)), int(h * rng.uniform(0.3, 0.42)))
    tilt = float(rng.uniform(-12, 12))
    parts = (
        ((cx, h), shoulder, _colour(rng)),
        ((cx, cy - head[1] // 4), (int(head[0] * 1.25), int(head[1] * 1.2)), _colour(rng, 70)),
        ((cx, cy + head[1] * 3 // 4), (head[0] // 2, head[1]), _skin(rng)),
        ((cx, cy), head, _skin(rng)),
    )
    for centre, axes, fill in parts:
        cv2.ellipse(image, centre, axes, tilt, 0, 360, fill, -1, cv2.LINE_AA)
        cv2.ellipse(mask, centre, axes, tilt, 0, 360, 255, -1)
    return _noisy(image, rng), mask


def street(rng: Rng, size: Size) -> tuple[Image, Image]:
    """Sky, buildings, pavements, a road, cars and people; the mask holds CamVid's class numbers."""
    h, w = size
    horizon = int(h * rng.uniform(0.35, 0.5))
    image, mask = np.zeros((h, w, 3), np.uint8), np.zeros(size, np.uint8)
    image[:] = (150 + int(rng.integers(60)), 190, 220)
    mask[:] = 0
    for x in range(0, w, w // 8):
        top = int(horizon * rng.uniform(0.2, 0.9))
        _box(image, mask, (x, top, x + w // 8, horizon + h // 10), _colour(rng, 160), 1)
    _poly(image, mask, [(0, h), (0, horizon + 4), (w, horizon + 4), (w, h)], (150, 140, 150), 4)
    middle = int(w * rng.uniform(0.4, 0.6))
    _poly(image, mask, [(w // 10, h), (middle - 6, horizon), (middle + 6, horizon), (w * 9 // 10, h)], (80, 80, 85), 3)
    for _ in range(3):
        x, y = int(rng.integers(w // 4, w * 3 // 4)), int(rng.integers(horizon, h * 4 // 5))
        _box(image, mask, (x, y, x + w // 9, y + h // 8), _colour(rng), 8)
        x = int(rng.integers(0, w))
        _box(image, mask, (x, y - h // 12, x + w // 50 + 1, y + h // 8), _colour(rng), 9)
    return _noisy(image, rng), mask


SIZES: dict[str, Size] = {"portrait": (264, 200), "street": (128, 256)}


def write(
    kind: str,
    folder: Path,
    count: int,
    seed: int = 0,
    size: Size | None = None,
    suffix: Literal[".jpg", ".png"] = ".jpg",
) -> None:
    """Write ``count`` pairs of ``portrait`` or ``street`` in the layout of images, masks and a manifest.

    Errors: `BadInput` where the folder holds data that were not generated; `OutputError`.
    """
    refuse_data(folder)
    draw = {"portrait": portrait, "street": street}[kind]
    items = []
    for i in range(count):
        image, mask = draw(np.random.default_rng((seed, i)), size or SIZES[kind])
        name = f"{kind}_{i:05d}"
        item = {"id": name, "image": f"images/{name}{suffix}", "mask": f"masks/{name}.png", "source": "generated"}
        _save(folder / item["image"], cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        _save(folder / item["mask"], mask)
        items.append(item)
    with atomic_path(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps({"note": NOTE, "items": items}), encoding="utf-8")


def refuse_data(folder: Path) -> None:
    """Errors: `BadInput` for a folder that holds anything but generated pairs."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    try:
        generated = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["note"] == NOTE
    except (OSError, ValueError, KeyError, TypeError):
        generated = False
    if not generated:
        raise BadInput(f"{folder} holds data that were not generated, and they stay; choose another --data DIR")


def _save(path: Path, image: NDArray[np.generic]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), image)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); choose another --data DIR") from error
    if not written:
        raise OutputError(f"cannot write {path}; choose another --data DIR, or make room")


def _clutter(rng: Rng, size: Size) -> Image:
    h, w = size
    image = np.full((h, w, 3), _colour(rng), np.uint8)
    for _ in range(12):
        x, y = int(rng.integers(w)), int(rng.integers(h))
        corner = (x + int(rng.integers(10, w // 2)), y + int(rng.integers(10, h // 2)))
        cv2.rectangle(image, (x, y), corner, _colour(rng), -1)
    blurred: Image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 6))).astype(np.uint8)
    return blurred


def _noisy(image: NDArray[np.uint8], rng: Rng) -> Image:
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(4)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _colour(rng: Rng, brightest: int = 256) -> Colour:
    r, g, b = (int(v) for v in rng.integers(0, brightest, 3))
    return r, g, b


def _skin(rng: Rng) -> Colour:
    depth = rng.uniform(0.35, 1)
    return int(235 * depth), int(190 * depth), int(165 * depth)


def _box(image: Image, mask: Image, box: tuple[int, int, int, int], fill: Colour, number: int) -> None:
    x0, y0, x1, y1 = box
    image[max(0, y0) : y1, max(0, x0) : x1] = fill
    mask[max(0, y0) : y1, max(0, x0) : x1] = number


def _poly(image: Image, mask: Image, points: list[tuple[int, int]], fill: Colour, number: int) -> None:
    corners = np.array(points, np.int32)
    cv2.fillPoly(image, [corners], fill)
    cv2.fillPoly(mask, [corners], number)
