"""How an artifact decides on real images: which decisions change, how sure the network was of them, and what it costs.

`parity` bounds numbers, on images made for it. This asks of photographs what a user would see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export.answers import as_mask, margin, prepared
from lightseg.export.artifact import Artifact
from lightseg.export.parity import STABILITY, boundary, flips, mask_of
from lightseg.export.probes import Image
from lightseg.images import read_photo, resize

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
DRAWS, SEED = 2000, 20261122
Run = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class ImageStability:
    """One image."""

    image: str
    pixels: int
    interior_flips: int
    """Pixels that changed their class where the reference has one class all around."""
    boundary_flips: int
    """Those that touch another class there."""
    flipped_weight: float
    """Margin of the reference (best class over second best) on the changed pixels, as a share of the whole image's."""
    iou: tuple[float | None, ...]
    """Of the two masks, by class; None where neither has it."""


@dataclass(frozen=True)
class ClassChange:
    """IoU of the artifact's mask with the reference's, mean over the images that have the class."""

    label: str
    images: int
    iou: float
    low: float
    high: float
    """95 % interval, images drawn again with replacement."""


@dataclass(frozen=True)
class Stability:
    """The decisions of one artifact on a set of images beside the reference's."""

    precision: str
    runner: dict[str, str]
    images: tuple[ImageStability, ...]
    labels: tuple[str, ...]
    limits: dict[str, float]

    @property
    def pixels(self) -> int:
        return sum(i.pixels for i in self.images)

    @property
    def flipped_weight(self) -> float:
        """Mean over the images."""
        return float(np.mean([i.flipped_weight for i in self.images]))

    @property
    def interior(self) -> float:
        """Share of all pixels that changed away from any boundary."""
        return sum(i.interior_flips for i in self.images) / self.pixels

    @property
    def boundary(self) -> float:
        """Share of all pixels that changed on a boundary."""
        return sum(i.boundary_flips for i in self.images) / self.pixels

    @property
    def classes(self) -> list[ClassChange]:
        return [change for c, label in enumerate(self.labels) if (change := self._class(c, label)) is not None]

    def _class(self, c: int, label: str) -> ClassChange | None:
        found = np.array([value for i in self.images if (value := i.iou[c]) is not None])
        if not len(found):
            return None
        draws = np.random.default_rng(SEED).integers(0, len(found), (DRAWS, len(found)))
        low, high = np.percentile(found[draws].mean(1), (2.5, 97.5))
        return ClassChange(label, len(found), float(found.mean()), float(low), float(high))

    @property
    def faults(self) -> list[str]:
        """What is beyond its limit; NaN is."""
        said = []
        for name, value in (("flipped_weight", self.flipped_weight), ("interior", self.interior)):
            if not value <= self.limits[name]:
                said.append(f"{WORDS[name]} {value:.2g} (allowed {self.limits[name]:.2g})")
        for change in self.classes:
            if not change.low >= self.limits["iou"]:
                said.append(
                    f"IoU of {change.label} with PyTorch's mask {change.iou:.5f} "
                    f"[{change.low:.5f}, {change.high:.5f}] (needed {self.limits['iou']:g})"
                )
        return said

    @property
    def ok(self) -> bool:
        return not self.faults

    def check(self, what: str) -> None:
        """Raise `ParityError` with the numbers and their limits, in one line."""
        if self.faults:
            error = ParityError(
                f"{what} decides otherwise than PyTorch on {len(self.images)} images: {'; '.join(self.faults)}"
            )
            error.diff = self.diff()
            raise error

    def diff(self) -> str:
        """Several lines: the figures with their limits, each class, and the images that changed most."""
        rows = [
            f"{len(self.images)} images, {self.pixels} pixels, {self.precision}: {'PASS' if self.ok else 'FAIL'}",
            f"  {WORDS['flipped_weight']:34} {self.flipped_weight:.2e}   allowed {self.limits['flipped_weight']:.0e}",
            f"  {WORDS['interior']:34} {self.interior:.2e}   allowed {self.limits['interior']:.0e}",
            f"  {'pixels changed on a boundary':34} {self.boundary:.2e}",
        ]
        rows += [
            f"  IoU {c.label:30} {c.iou:.6f}   [{c.low:.6f}, {c.high:.6f}] over {c.images}, needed {self.limits['iou']}"
            for c in self.classes
        ]
        worst = sorted(self.images, key=lambda i: -i.flipped_weight)[:3]
        rows += [
            f"  {i.image}: {i.interior_flips} inside, {i.boundary_flips} on a boundary, margin {i.flipped_weight:.1e}"
            for i in worst
            if i.interior_flips + i.boundary_flips
        ]
        return "\n".join(rows)

    def to_dict(self) -> dict[str, Any]:
        own = ("ok", "faults", "flipped_weight", "interior", "boundary")
        classes = [asdict(change) for change in self.classes]
        return asdict(self) | {name: getattr(self, name) for name in own} | {"classes": classes}


WORDS = {"flipped_weight": "margin lost to changed pixels", "interior": "pixels changed off any boundary"}


def stability(artifact: Artifact, run: Run, reference: Run, images: Iterable[tuple[str, Image]]) -> Stability:
    """Compare ``run`` with ``reference`` on ``images``, named H×W×3 uint8 RGB in any size.

    ``run`` takes what the artifact takes, as its runner does; ``reference`` takes preprocessed N×3×H×W and returns
    logits: PyTorch, or whatever stands in for it.

    Errors: `Unsupported` where the table of tolerances has no row for the precision or the output is a coarse mask;
    `BadInput` where there are no images.
    """
    if artifact.precision not in STABILITY or artifact.output == "mask_coarse":
        raise Unsupported(
            f"no tolerance for decisions of {artifact.precision} {artifact.output} files; leave out --images"
        )
    rows = tuple(_compared(name, resize(image, artifact.size), artifact, run, reference) for name, image in images)
    if not rows:
        raise BadInput("no images to compare decisions on; give a folder with some")
    details: dict[str, str] = getattr(run, "details", {})
    return Stability(artifact.precision, details, rows, artifact.labels.names, STABILITY[artifact.precision])


def _compared(name: str, image: Image, artifact: Artifact, run: Run, reference: Run) -> ImageStability:
    logits = reference(prepared(image, artifact.preprocess)).astype(np.float64)
    got = run(prepared(image, artifact.feeds))
    mask, sure = mask_of(logits, artifact.labels), margin(logits, artifact.labels)
    flipped, edge = flips(got, mask, artifact), boundary(mask)
    return ImageStability(
        image=name,
        pixels=int(mask.size),
        interior_flips=int((flipped & ~edge).sum()),
        boundary_flips=int((flipped & edge).sum()),
        flipped_weight=float(sure[flipped].sum() / sure.sum()) if sure.any() else float(flipped.any()),
        iou=tuple(_iou(mask, got, artifact)),
    )


def _iou(mask: NDArray[np.uint8], got: NDArray[Any], artifact: Artifact) -> Iterator[float | None]:
    """NaN and infinity are no mask: every class of the reference is lost then."""
    other = as_mask(got, artifact.output, artifact.labels) if np.isfinite(got).all() else np.full_like(mask, 255)
    for c in range(len(artifact.labels.names)):
        either = (mask == c) | (other == c)
        yield float(((mask == c) & (other == c)).sum() / either.sum()) if either.any() else None


def images_in(folder: Path, limit: int | None = None) -> Iterator[tuple[str, Image]]:
    """The images of ``folder`` by name, at most ``limit``. Errors: `BadInput` where there is none."""
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}; give --images a folder of photographs")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise BadInput(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}); name the folder that holds them")
    for path in paths[:limit]:
        yield path.name, read_photo(path)
