"""Generated pairs in place of a data set that is not there, to time a recipe with: as large, and as slow to read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lightseg.errors import BadInput
from lightseg.train.augment import Size
from lightseg.train.generate import write
from lightseg.train.layouts import find_pairs
from lightseg.train.recipe import Layout, Recipe

PAIRS = 24
"""Generated per data set; streets at full size get a third."""


@dataclass(frozen=True)
class Standin:
    """What the images of a layout's data set are like, and how many there are to train on."""

    kind: str
    size: Size
    suffix: Literal[".jpg", ".png"]
    pairs: int
    name: str


STANDINS = {
    "pairs": Standin("portrait", (352, 264), ".jpg", 1944, "EG1800 and Clothing Co-Parsing"),
    "eg1800": Standin("portrait", (800, 600), ".jpg", 1500, "EG1800"),
    "cityscapes": Standin("street", (1024, 2048), ".png", 2975, "Cityscapes"),
    "camvid": Standin("street", (360, 480), ".png", 367, "CamVid"),
}


@dataclass(frozen=True)
class Data:
    """Where a recipe's pairs are, what to call them, and how many to reckon with (None: as many as there are)."""

    recipe: Recipe
    folder: Path
    words: str
    count: int | None = None


def real_or_standin(recipe: Recipe, data: Path | None, nowhere: Path, count: int | None = None) -> Data:
    """The recipe's own data below ``data`` where they are there, else generated ones, written below ``nowhere``.

    ``count`` is the number of pairs to reckon with in place of those of the data set.
    """
    if data is not None:
        try:
            find_pairs(recipe.layout, data, recipe.train_folder)
            return Data(recipe, data, f"in {data}", count)
        except BadInput:
            pass  # `standin` says in `words` that the data are generated
    found = standin(recipe, nowhere)
    return found if count is None else replace(found, count=count)


def standin(recipe: Recipe, nowhere: Path) -> Data:
    """Generated pairs of the size of the recipe's, written below ``nowhere`` unless they are there already."""
    like = STANDINS[recipe.layout]
    folder = nowhere / recipe.layout
    if not folder.is_dir():
        big = like.size[0] * like.size[1] > 1_000_000
        write(like.kind, folder / "train", PAIRS // 3 if big else PAIRS, size=like.size, suffix=like.suffix)
    layout: Layout = "pairs" if like.kind == "portrait" else "camvid"
    drawn = replace(recipe, layout=layout, train_folder="train", val_folder="train", holdout=0.0)
    words = f"generated, {like.size[0]}x{like.size[1]}, in place of the {like.pairs:,} pairs of {like.name}"
    return Data(drawn, folder, words, round(like.pairs * (1 - recipe.holdout)))
