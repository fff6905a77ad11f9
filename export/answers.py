"""An artifact's answers beside the reference's: how they are fed, read and told apart. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.export.probes import Image
from lightseg.images import normalise
from lightseg.predict import class_logits, mask_from_logits, probability_from_logits
from lightseg.spec import Labels, Preprocess

Array = NDArray[Any]
"""Float64 where it comes from the reference."""

MASKS = ("mask", "mask_coarse")
"""Outputs that are classes and not numbers."""


@dataclass(frozen=True)
class Distance:
    """|Δ| as a share of max|y|: the largest and the mean over all logits."""

    largest: float
    mean: float


@dataclass(frozen=True)
class Limit:
    """What one probe must keep; errors are shares of its largest logit."""

    largest: float
    mean: float
    agreement: float


def distance(got: Array, want: Array) -> Distance:
    error, scale = np.abs(got - want), float(np.abs(want).max())
    return Distance(float(error.max()) / scale, float(error.mean()) / scale)


def prepared(image: Image, preprocess: Preprocess) -> NDArray[np.float32]:
    """H×W×3 uint8 RGB → 1×3×H×W float32."""
    return normalise(image.astype(np.float32).transpose(2, 0, 1)[None], preprocess)


def margin(logits: Array, labels: Labels) -> Array:
    """Distance between the best and the second-best class, N×H×W: the error a decision survives, times two."""
    best = np.partition(class_logits(logits, labels), -2, axis=1)
    gap: Array = best[:, -1] - best[:, -2]
    return gap


def as_output(logits: Array, output: str, labels: Labels) -> Array:
    """``logits`` as an artifact with this output would give them, N×C×H×W."""
    if output == "logits":
        return logits
    if output in MASKS:
        return mask_from_logits(logits, labels)[:, None].astype(np.float64)
    probability = probability_from_logits(logits, labels).astype(np.float64)
    return probability[:, 1:2] if len(labels.names) == 2 else probability


def as_mask(output: Array, kind: str, labels: Labels) -> NDArray[np.uint8]:
    """The class map in an artifact's output, N×H×W."""
    if kind == "logits":
        return mask_from_logits(output, labels)
    if kind in MASKS:
        return output[:, 0].astype(np.uint8)
    return (output[:, 0] > 0.5).astype(np.uint8) if output.shape[1] == 1 else output.argmax(1).astype(np.uint8)
