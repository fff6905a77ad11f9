"""Augmentations: uint8 image (H×W×3, RGB) and class map (H×W) in, the same at the wanted size out.

A class map may have a second layer (H×W×2), a teacher's probability: it goes through the same geometry.

Every function takes its own random generator, so that a sample depends on seed, epoch and index alone: not on the
number of workers, and not on where a run was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from lightseg.train.recipe import ZOOM

Image = NDArray[np.uint8]
Rng = np.random.Generator
Size = tuple[int, int]
"""Height, width."""
Another = Callable[[], tuple[Image, Image]]
"""Draws another training image and its class map."""


def squeeze(image: Image, mask: Image, size: Size) -> tuple[Image, Image]:
    """Resize both to ``size`` without keeping the aspect, as the evaluation does.

    A mask takes the pixel nearest to each centre. OpenCV's INTER_NEAREST takes one up and to the left, which moves
    masks by half a pixel against their images: in Clothing Co-Parsing 0.24 points of a sound network's IoU at 224×224.
    """
    h, w = size
    small = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return _u8(small), _u8(cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST_EXACT))


def portrait(
    image: Image, mask: Image, size: Size, rng: Rng, another: Another, zoom: Sequence[float] = ZOOM
) -> tuple[Image, Image]:
    """Our portrait augmentation: lifelike geometry in two thirds, backgrounds of other photos in a sixth, colour."""
    if rng.random() < 0.65:
        image, mask = _affine(image, mask, size, rng, zoom)
    else:
        image, mask = squeeze(image, mask, size)
    if rng.random() < 0.17:
        image, mask = replace_background(image, mask, *squeeze(*another(), size), rng)
    image, mask = _flip(image, mask, rng)
    image = colour(image, rng, 0.35) if rng.random() < 0.7 else image
    image = _soften(image, rng)
    return image, mask


def settled(image: Image, mask: Image, size: Size, rng: Rng, another: Another) -> tuple[Image, Image]:
    """Images nearly as the evaluation sees them, for the end of a training run."""
    image, mask = _flip(*squeeze(image, mask, size), rng)
    return (colour(image, rng, 0.15) if rng.random() < 0.5 else image), mask


def portrait_published(image: Image, mask: Image, size: Size, rng: Rng, another: Another) -> tuple[Image, Image]:
    """The authors' portrait augmentation: one wide affine, flip, colour, blur, noise, each of the latter in a half."""
    h, w = image.shape[:2]
    scale = rng.uniform(0.5, 1.5) * (size[0] / h + size[1] / w) / 2
    dx, dy = rng.uniform(-size[0] / 4, size[0] / 4, 2)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-45, 45), scale)
    matrix[:, 2] += (size[1] / 2 + dx - w / 2, size[0] / 2 + dy - h / 2)
    image, mask = _flip(*_warp(image, mask, matrix, size, cv2.BORDER_CONSTANT), rng)
    if rng.random() < 0.5:
        image = _published_colour(image, rng)
    if rng.random() < 0.5:
        image = _published_blur(image, rng)
    if rng.random() < 0.5:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0, 10))
        image = _u8(np.clip(image + noise, 0, 255))
    return image, mask


def border_crop(image: Image, mask: Image, size: Size, rng: Rng, another: Another) -> tuple[Image, Image]:
    """The C3 nets' street augmentation: in a half, a symmetric border is cut off; resized; flipped in a half.

    The authors flip upside down by mistake; here left and right change places.
    """
    if rng.random() < 0.5:
        h, w = mask.shape[:2]
        cut = rng.uniform(0, 0.1)
        y, x = int(h * cut), int(w * cut)
        image, mask = image[y : h - y, x : w - x], mask[y : h - y, x : w - x]
    return _flip(*squeeze(image, mask, size), rng)


def scale_crop(image: Image, mask: Image, size: Size, rng: Rng, another: Another) -> tuple[Image, Image]:
    """SINet's street augmentation: log-uniform scale ½–2, padded with void, random crop of ``size``, flip."""
    fit = max(size[0] / mask.shape[0], size[1] / mask.shape[1]) * math.exp(rng.uniform(-math.log(2), math.log(2)))
    h, w = round(mask.shape[0] * fit), round(mask.shape[1] * fit)
    image, mask = squeeze(image, mask, (h, w))
    below, right = max(0, size[0] - h), max(0, size[1] - w)
    image = _u8(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(128, 128, 128)))
    mask = _u8(cv2.copyMakeBorder(mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(255,)))
    y, x = int(rng.integers(mask.shape[0] - size[0] + 1)), int(rng.integers(mask.shape[1] - size[1] + 1))
    part = (slice(y, y + size[0]), slice(x, x + size[1]))
    return _flip(image[part], mask[part], rng)


def plain(image: Image, mask: Image, size: Size, rng: Rng, another: Another) -> tuple[Image, Image]:
    """The evaluation's resize and nothing else."""
    return squeeze(image, mask, size)


Augment = Callable[[Image, Image, Size, Rng, Another], tuple[Image, Image]]

AUGMENTATIONS: dict[str, Augment] = {
    "none": plain,
    "portrait": portrait,
    "portrait_published": portrait_published,
    "border_crop": border_crop,
    "scale_crop": scale_crop,
}


def drawn_by(name: str, zoom: Sequence[float]) -> Augment:
    """The augmentation called ``name``; ``zoom`` is heeded by `portrait` alone."""
    return partial(portrait, zoom=zoom) if name == "portrait" else AUGMENTATIONS[name]


def _flip(image: Image, mask: Image, rng: Rng) -> tuple[Image, Image]:
    if rng.random() < 0.5:
        return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    return image, mask


def _affine(image: Image, mask: Image, size: Size, rng: Rng, zoom: Sequence[float]) -> tuple[Image, Image]:
    """Mild rotation, scale, aspect and shift on top of the squeeze; border pixels and their labels are repeated."""
    h, w = image.shape[:2]
    angle = math.radians(rng.normal(0, 9))
    scale = math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1])))
    aspect = math.exp(rng.uniform(-0.14, 0.14))
    sx, sy = scale * aspect * size[1] / w, scale / aspect * size[0] / h
    dx, dy = rng.uniform(-0.13, 0.13, 2)
    cos, sin = math.cos(angle), math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([sx, sy])
    centre = np.array([(0.5 + dx) * size[1], (0.5 + dy) * size[0]])
    matrix = np.column_stack([linear, centre - linear @ np.array([w / 2, h / 2])])
    return _warp(image, mask, matrix, size, cv2.BORDER_REPLICATE)


def _warp(image: Image, mask: Image, matrix: NDArray[np.float64], size: Size, border: int) -> tuple[Image, Image]:
    to = (size[1], size[0])
    warped = cv2.warpAffine(image, matrix, to, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(128, 128, 128))
    return _u8(warped), _u8(cv2.warpAffine(mask, matrix, to, flags=cv2.INTER_NEAREST, borderMode=border))


def replace_background(image: Image, mask: Image, backdrop: Image, hole: Image, rng: Rng) -> tuple[Image, Image]:
    """The person of ``image`` before ``backdrop``, whose own person (``hole``) is painted over from around it.

    Nothing a teacher saw outside the person is there any more: its probability becomes 0.
    """
    keep = (cv2.dilate(classes(hole), np.ones((7, 7), np.uint8)) != 1).astype(np.float32)
    span = (int(rng.integers(20, 60)) * 2 + 1,) * 2
    weight = cv2.blur(keep, span) + 1e-3
    filled = cv2.blur(backdrop * keep[..., None], span) / weight[..., None]
    scene = np.where(keep[..., None] > 0, backdrop, np.clip(filled, 0, 255))
    person = classes(mask) == 1
    alpha = cv2.GaussianBlur(person.astype(np.float32), (0, 0), 0.8)[..., None]
    if mask.ndim == 3:
        mask = np.dstack([mask[..., 0], mask[..., 1] * person])
    return _u8(np.clip(image * alpha + scene * (1 - alpha), 0, 255)), mask


def classes(mask: Image) -> Image:
    """The class numbers of a map with or without a teacher's layer."""
    return mask if mask.ndim == 2 else np.ascontiguousarray(mask[..., 0])


def colour(image: Image, rng: Rng, strength: float) -> Image:
    """Brightness, contrast, saturation, gamma and a colour cast, each by up to ``strength`` (relative)."""
    gain, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    cast = 1 + rng.uniform(-0.35, 0.35, 3) * strength
    gamma = math.exp(rng.uniform(-1, 1) * strength)
    ramp = np.linspace(0, 1, 256, dtype=np.float32) ** gamma
    table = np.clip(((ramp[:, None] * gain * cast - 0.5) * contrast + 0.5) * 255, 0, 255).astype(np.uint8)
    out = cv2.LUT(image, table.reshape(256, 1, 3))
    grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _u8(cv2.addWeighted(out, float(saturation), grey, float(1 - saturation), 0))


def _published_colour(image: Image, rng: Rng) -> Image:
    """Saturation and brightness by .4–1.6, contrast by .6–1.4, sharpness by .8–1.2."""
    saturation, brightness = rng.uniform(0.4, 1.6, 2)
    contrast, sharpness = rng.uniform(0.6, 1.4), rng.uniform(0.8, 1.2)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    out = cv2.addWeighted(image, float(saturation), grey, float(1 - saturation), 0)
    out = cv2.convertScaleAbs(out, alpha=float(brightness))
    middle = float(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY).mean())
    out = _u8(np.clip((out.astype(np.float32) - middle) * contrast + middle, 0, 255))
    smooth = cv2.GaussianBlur(out, (3, 3), 0)
    return _u8(cv2.addWeighted(out, float(sharpness), smooth, float(1 - sharpness), 0))


def _published_blur(image: Image, rng: Rng) -> Image:
    """Gaussian, median or box, 3 or 5 pixels wide."""
    width = int(rng.choice((3, 5)))
    kind = int(rng.integers(3))
    if kind == 0:
        return _u8(cv2.GaussianBlur(image, (width, width), 0))
    return _u8(cv2.medianBlur(image, width) if kind == 1 else cv2.blur(image, (width, width)))


def _soften(image: Image, rng: Rng) -> Image:
    """Blur, noise or JPEG traces, one of them at most."""
    draw = rng.random()
    if draw < 0.12:
        return _u8(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.4))))
    if draw < 0.24:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 10))
        return _u8(np.clip(image + noise, 0, 255))
    if draw < 0.32:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return image if decoded is None else _u8(decoded)
    return image


def _u8(image: NDArray[np.generic]) -> Image:
    return image.astype(np.uint8, copy=False)
