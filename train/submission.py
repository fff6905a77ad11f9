"""Predictions for the Cityscapes test server: labelIds at 1024×2048 under the names it wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from lightseg.errors import BadInput
from lightseg.spec import Preprocess
from lightseg.train import sheets
from lightseg.train.augment import Image, Size
from lightseg.train.datasets import to_tensor
from lightseg.train.evaluate import Predict, class_map
from lightseg.train.layouts import LABEL_IDS

SERVER = (1024, 2048)
SUFFIX = "_leftImg8bit.png"


def label_ids(classes: Image) -> Image:
    """Training classes 0…18 as official labelIds; anything else as 0, the server's "unlabeled"."""
    table = np.zeros(256, np.uint8)
    table[: len(LABEL_IDS)] = LABEL_IDS
    return table[classes]


def write_submission(predict: Predict, preprocess: Preprocess, images: Path, out: Path, size: Size) -> Iterator[Path]:
    """Predict every ``<city>/*_leftImg8bit.png`` below ``images`` at input ``size``; yields each file written.

    Logits are enlarged to 1024×2048 before the class is chosen, so that edges are not blocky.
    """
    files = sorted(images.glob(f"*/*{SUFFIX}"))
    if not files:
        raise BadInput(
            f"no <city>/*{SUFFIX} in {images}; unpack leftImg8bit_trainvaltest.zip from www.cityscapes-dataset.com and "
            "pass its leftImg8bit/test as --data"
        )
    for file in files:
        read = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if read is None:
            raise BadInput(f"{file} cannot be read as an image; unpack the archive again")
        small = cv2.resize(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        logits = predict(to_tensor(small.astype(np.uint8), preprocess)[None].numpy())[0]
        target = out / f"{file.name.removesuffix(SUFFIX)}_pred_labelIds.png"
        sheets.write_png(target, label_ids(class_map(logits, 19, SERVER)))
        yield target
