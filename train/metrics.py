"""Metrics, each named for what it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer]


def foreground_iou(predicted: Classes, truth: Classes, ignore: int = 255) -> float:
    """IoU of class 1 in one image, H×W each; 1 where neither holds the class."""
    known = truth != ignore
    a, b = (predicted == 1) & known, (truth == 1) & known
    either = int((a | b).sum())
    return 1.0 if either == 0 else int((a & b).sum()) / either
