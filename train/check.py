"""``--check-data``: every file opened once, counted, and the broken ones named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from lightseg.errors import LightsegError
from lightseg.spec import Labels
from lightseg.train import sheets
from lightseg.train.augment import Image
from lightseg.train.datasets import read
from lightseg.train.layouts import VOID, Pair

TILE = 160


@dataclass(frozen=True)
class Findings:
    """What a folder holds."""

    pairs: int
    sources: dict[str, int]
    sizes: dict[str, int]
    """How often each ``WxH`` occurs."""
    balance: dict[str, float]
    """Share of the pixels per class name, and of void."""
    empty: list[str]
    """Pairs whose mask holds a single class or nothing but void."""
    broken: list[str]
    """One sentence per file that cannot be used."""


def check(pairs: Sequence[Pair], layout: str, labels: Labels, tiles: int = 40) -> tuple[Findings, Image | None]:
    """Open every pair; return what was found, and a contact sheet of ``tiles`` overlays spread over the set."""
    sizes: Counter[str] = Counter()
    pixels = np.zeros(256, np.int64)
    empty: list[str] = []
    broken: list[str] = []
    shown: list[Image] = []
    every = max(1, len(pairs) // tiles)
    for i, pair in enumerate(pairs):
        damaged = [said for path in (pair.image, pair.mask) if (said := damage(path))]
        if damaged:
            broken += damaged
            continue
        try:
            image, mask = read(pair, layout)
        except LightsegError as error:
            broken.append(str(error))
            continue
        sizes[f"{image.shape[1]}x{image.shape[0]}"] += 1
        counts = np.bincount(mask.ravel(), minlength=256)
        pixels += counts
        if (counts[:VOID] > 0).sum() < 2:
            empty.append(pair.name)
        if i % every == 0 and len(shown) < tiles:
            shown.append(_tile(image, mask, pair, labels))
    total = max(1, int(pixels.sum()))
    balance = {name: int(pixels[c]) / total for c, name in enumerate(labels.names) if pixels[c]}
    balance["void"] = int(pixels[VOID]) / total
    sources = Counter(p.source or "unnamed" for p in pairs)
    findings = Findings(len(pairs), dict(sources), dict(sizes.most_common()), balance, empty, broken)
    return findings, sheets.grid(shown, 8) if shown else None


def damage(path: Path) -> str:
    """What is wrong with an image file, nothing if it is whole: OpenCV reads a cut-off JPEG and makes the rest grey."""
    if not path.is_file():
        return f"{path} is missing"
    try:
        with PIL.Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        return f"{path} is damaged ({error})" if path.stat().st_size else f"{path} is empty"
    return ""


def _tile(image: Image, mask: Image, pair: Pair, labels: Labels) -> Image:
    scale = TILE / max(image.shape[:2])
    to = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    shown = sheets.overlay(image, mask, labels, 0.45)
    return sheets.captioned(cv2.resize(shown, to, interpolation=cv2.INTER_AREA).astype(np.uint8), pair.name[-24:])
