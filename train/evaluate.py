"""Scores of anything that turns an image into logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lightseg.spec import Preprocess
from lightseg.train.augment import squeeze
from lightseg.train.datasets import Pair, read, to_tensor
from lightseg.train.metrics import foreground_iou

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""N×3×H×W preprocessed input → N×C×h×w logits."""


def of_network(net: nn.Module) -> Predict:
    """A PyTorch network as a `Predict`."""

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = net(torch.from_numpy(x)).float().numpy()
        return logits

    return predict


def class_map(logits: NDArray[np.float32], classes: int) -> NDArray[np.uint8]:
    """C×H×W logits to class numbers; one channel means logit > 0, channels beyond ``classes`` are ignored."""
    if len(logits) == 1:
        return (logits[0] > 0).astype(np.uint8)
    return logits[:classes].argmax(0).astype(np.uint8)


def person_ious(predict: Predict, preprocess: Preprocess, pairs: Sequence[Pair], size: tuple[int, int]) -> NDArray[np.float64]:
    """The IoU of the person in each image, with image and mask squeezed to ``size``."""
    found = []
    for pair in pairs:
        image, mask = squeeze(*read(pair), size)
        predicted = class_map(predict(to_tensor(image, preprocess)[None].numpy())[0], 2)
        found.append(foreground_iou(predicted, mask))
    return np.array(found)
