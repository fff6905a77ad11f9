"""Metrics, each named for what it is. Predictions and truths are H×W maps of class numbers; ``ignore`` marks void."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.integer]
Counts = NDArray[np.int64]
Scores = NDArray[np.float64]


def foreground_iou(predicted: Classes, truth: Classes, ignore: int = 255) -> float:
    """IoU of class 1 in one image; 1 where neither holds the class. The portrait papers average it over images."""
    known = truth != ignore
    a, b = (predicted == 1) & known, (truth == 1) & known
    either = int((a | b).sum())
    return 1.0 if either == 0 else int((a & b).sum()) / either


def confusion(predicted: Classes, truth: Classes, classes: int, ignore: int = 255) -> Counts:
    """classes×(classes + 1) pixel counts, rows the truth, columns the prediction.

    Predictions beyond the table go to the extra last column, so that no mistake is dropped.
    """
    known = (truth != ignore) & (truth < classes)
    column = np.minimum(predicted[known].astype(np.int64), classes)
    flat = truth[known].astype(np.int64) * (classes + 1) + column
    return np.bincount(flat, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_ious(counts: Counts) -> Scores:
    """IoU of every class over a whole data set, from summed confusion counts; NaN where the class never occurs."""
    n = len(counts)
    hits = counts[:, :n].diagonal().astype(np.float64)
    union = counts.sum(1) + counts[:, :n].sum(0) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(counts: Counts, over: Sequence[int] | None = None) -> float:
    """Mean of `class_ious` over the classes that occur (Cityscapes' definition), or over those of ``over``."""
    ious = class_ious(counts)
    chosen = ious if over is None else ious[list(over)]
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else float("nan")


def boundary_f1(predicted: Classes, truth: Classes, reach: int = 3) -> float:
    """F1 of class 1's boundary in one image: shares of boundary pixels within ``reach`` pixels of the other boundary.

    1 where neither has a boundary, 0 where only one has.
    """
    a, b = _boundary(predicted), _boundary(truth)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    precision = float(a[cv2.dilate(b, disc) > 0].sum() / a.sum())
    recall = float(b[cv2.dilate(a, disc) > 0].sum() / b.sum())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def _boundary(classes: Classes) -> NDArray[np.uint8]:
    """1 on pixels of class 1 that touch another class; the image's own border is no boundary."""
    person = (classes == 1).astype(np.uint8)
    eroded = cv2.erode(person, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    edge: NDArray[np.uint8] = (person - eroded).astype(np.uint8)
    return edge


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap(values: Scores, draws: int = 10_000, seed: int = 0) -> Interval:
    """Mean over images with the 2.5 and 97.5 percentiles of the means of resampled images.

    For a paired comparison pass the differences, image by image: an interval that excludes 0 is a difference.
    """
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))
