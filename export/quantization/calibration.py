"""The photographs int8 is found with and judged on, told apart by the hash of their bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightseg.camvid import CAMVID
from lightseg.errors import BadInput
from lightseg.files import sha256_of
from lightseg.images import Photo, read_photo, resize

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VOID = 255
FEWEST = 16
"""Of fewer photographs, half for the ranges and a quarter each to choose and to judge, no part says anything."""


@dataclass(frozen=True)
class Counts:
    """How many images of a folder serve each purpose at most; the rest is left unread."""

    ranges: int = 48
    choosing: int = 48
    judging: int = 256


COUNTS = {"portrait": Counts(), "street": Counts(12, 8, 24)}
"""Street scenes have ten to forty times the pixels, and PyTorch takes a second for each."""


@dataclass(frozen=True)
class Picture:
    """One image file, the sha256 of its bytes, and its mask where there is one."""

    path: Path
    sha256: str
    mask: Path | None
    streets: bool = False
    """The mask holds CamVid's classes, not a person."""

    def read(self, size: tuple[int, int]) -> Photo:
        """H×W×3 uint8 RGB at ``size``. Errors: `BadInput` for a file that is no readable picture."""
        return resize(read_photo(self.path), size)

    def truth(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The labelled person, H×W at ``size``, nearest neighbour: mask values above 127."""
        return self._grey(size) > 127

    def classes(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The labelled class of Cityscapes, `VOID` where there is none, H×W at ``size``, nearest neighbour."""
        table = np.full(256, VOID, np.uint8)
        table[: len(CAMVID)] = CAMVID
        known: NDArray[np.uint8] = table[self._grey(size)]
        return known

    def _grey(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        assert self.mask is not None
        with Image.open(self.mask) as file:
            return np.asarray(file.convert("L").resize((size[1], size[0]), Image.Resampling.NEAREST))


@dataclass(frozen=True)
class Calibration:
    """Three sets without a photograph in common."""

    ranges: tuple[Picture, ...]
    choosing: tuple[Picture, ...]
    judging: tuple[Picture, ...]
    source: str
    """Where ``judging`` comes from: ``evaluation folder``, or ``held-out calibration images``."""

    def to_dict(self) -> dict[str, Any]:
        """For the record: what the file has seen, and what it has not."""
        parts = {name: [p.sha256 for p in getattr(self, name)] for name in ("ranges", "choosing", "judging")}
        return {
            "images": {name: len(hashes) for name, hashes in parts.items()},
            "sha256": parts,
            "judged_on": self.source,
        }


def gather(calibration: Path, evaluation: Path | None = None, most: Counts = COUNTS["portrait"]) -> Calibration:
    """Split the folder(s) by content hash, so that the same files give the same sets whatever their names.

    Without ``evaluation`` a quarter of the calibration images is held out to judge.

    Errors: `BadInput` for a folder that is missing, empty or too small, and for images that are in both.
    """
    known = pictures(calibration, "--calibration")
    if evaluation is None:
        rest, judging, source = known[:], known[3::4], "held-out calibration images"
        rest = [p for i, p in enumerate(known) if i % 4 != 3]
    else:
        rest, judging, source = known, pictures(evaluation, "--evaluation"), "evaluation folder"
        _refuse_overlap(known, judging, calibration, evaluation)
    choosing = rest[2::3]
    ranges = [p for i, p in enumerate(rest) if i % 3 != 2]
    judging = judging[: most.judging]
    return Calibration(tuple(ranges[: most.ranges]), tuple(choosing[: most.choosing]), tuple(judging), source)


def pictures(folder: Path, option: str) -> list[Picture]:
    """The images in ``folder`` (or in its images/), each content once, in the order of their hashes."""
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}; give {option} a folder of photographs")
    inside = folder / "images" if (folder / "images").is_dir() else folder
    files = sorted(p for p in inside.iterdir() if p.suffix.lower() in ENDINGS)
    if not files:
        raise BadInput(f"{inside} holds no photographs ({', '.join(ENDINGS)}); give {option} a folder that does")
    masks, streets = _masks(inside), _is_camvid(inside.parent / "manifest.json")
    found = {sha256_of(p): p for p in reversed(files)}
    if len(found) < FEWEST:
        raise BadInput(f"{inside} holds {len(found)} different photographs; {option} needs at least {FEWEST}")
    return [Picture(path, digest, masks.get(path.stem), streets) for digest, path in sorted(found.items())]


def _masks(images: Path) -> dict[str, Path]:
    """By the stem of the image: masks/ stands beside images/."""
    folder = images.parent / "masks"
    return {p.stem: p for p in folder.iterdir()} if images.name == "images" and folder.is_dir() else {}


def _is_camvid(manifest: Path) -> bool:
    """Whether the masks are said to be CamVid's. Errors: `BadInput` for a damaged manifest."""
    try:
        return manifest.is_file() and json.loads(manifest.read_text(encoding="utf-8")).get("source") == "camvid"
    except (ValueError, AttributeError) as error:
        raise BadInput(
            f"{manifest} is damaged ({error}); mend it, or take the photographs to another folder"
        ) from error


def _refuse_overlap(known: Sequence[Picture], judging: Sequence[Picture], first: Path, second: Path) -> None:
    seen = {p.sha256: p for p in known}
    both = [p for p in judging if p.sha256 in seen]
    if both:
        raise BadInput(
            f"{len(both)} of the images in {second} are in {first} too, {both[0].path.name} for one (same sha256): "
            "what calibrated a file cannot judge it; take them out of one of the folders"
        )
