"""What int8 costs the task: masks against labels, or against float32's own masks where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.export.quantization.calibration import Picture
from lightseg.images import Photo
from lightseg.spec import ModelSpec

Masks = list[NDArray[np.uint8]]
Answer = Callable[[Photo], NDArray[np.uint8]]
"""H×W×3 uint8 RGB at the input size → class map, H'×W'."""

LABELS, OWN = "labels", "float32's own masks"
ALLOWED = {LABELS: 0.5, OWN: 1.0}
"""Points of IoU an int8 file may lose unless the user says otherwise. Against its own masks every pixel that
changes counts, for better or worse: portrait files 97.9 to 99.6 alike lost 0.0 to 0.2 points against labels."""


@dataclass(frozen=True)
class TaskLoss:
    """All figures but ``images`` in per cent or points."""

    images: int
    metric: str
    against: str
    """`LABELS`, or `OWN`: then ``float32`` is 100, and the drop no loss of accuracy but what bounds it."""
    float32: float
    int8: float
    agreement: float
    """Pixels with float32's class."""

    @property
    def drop(self) -> float:
        return self.float32 - self.int8

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"drop": self.drop}

    def __str__(self) -> str:
        return f"{self.drop:.2f} points of {self.metric} against {self.against} on {self.images} images"


def allowed(loss: TaskLoss) -> float:
    return ALLOWED[loss.against]


class Judge:
    """Knows the images, what float32 answers and what is right; scores other answers."""

    def __init__(self, spec: ModelSpec, pictures: Sequence[Picture], size: tuple[int, int], float32: Answer) -> None:
        self.spec = spec
        self.photos = [p.read(size) for p in pictures]
        self.float32 = [float32(photo) for photo in self.photos]
        shape = self.float32[0].shape
        labelled = spec.task == "portrait" and all(p.mask for p in pictures)
        self.truth: Masks | None = [p.truth((shape[0], shape[1])) for p in pictures] if labelled else None  # type: ignore[misc]

    def loss(self, answer: Answer) -> TaskLoss:
        masks = [answer(photo) for photo in self.photos]
        truth, against = (self.truth, LABELS) if self.truth else (self.float32, OWN)
        score, metric = (_person, "person IoU") if self.spec.task == "portrait" else (_mean_iou, "mean IoU")
        return TaskLoss(
            images=len(masks),
            metric=metric,
            against=against,
            float32=score(self.float32, truth),
            int8=score(masks, truth),
            agreement=100 * float(np.mean([np.mean(a == b) for a, b in zip(masks, self.float32)])),
        )


def _person(masks: Masks, truth: Masks) -> float:
    """Per-image IoU of the person, averaged; an image without one, rightly left empty, counts 100."""
    return 100 * float(np.mean([_iou(a == 1, b == 1) for a, b in zip(masks, truth)]))


def _mean_iou(masks: Masks, truth: Masks) -> float:
    """Over all pixels together, averaged over the classes in ``truth``."""
    a, b = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in truth])
    return 100 * float(np.mean([_iou(a == k, b == k) for k in np.unique(b)]))


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
