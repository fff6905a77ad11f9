"""What int8 costs the task: masks against labels, or against float32's own masks where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightseg.camvid import CAMVID_MERGE
from lightseg.export.quantization.calibration import VOID, Picture
from lightseg.images import Photo
from lightseg.spec import ModelSpec

Masks = list[NDArray[np.uint8]]
Answer = Callable[[Photo], NDArray[np.uint8]]
"""H×W×3 uint8 RGB at the input size → class map, H'×W'."""

LABELS, OWN = "labels", "float32's own masks"
PERSON, MEAN = "person IoU", "mean IoU"
ALLOWED = {(PERSON, LABELS): 0.5, (PERSON, OWN): 1.0, (MEAN, LABELS): 1.0, (MEAN, OWN): 1.0}
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
    alike: float | None = None
    """The metric against float32's own masks, where ``int8`` is against labels; over all classes float32 finds."""

    @property
    def drop(self) -> float:
        return self.float32 - self.int8

    @property
    def unrest(self) -> float:
        """The drop, or the per cent of pixels that change their class where that is more: what a search of street mixes
        keeps low, as against labels a mix may be lucky."""
        return max(self.drop, 100 - self.agreement)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"drop": self.drop}

    def __str__(self) -> str:
        alike = "" if self.alike is None else f" ({self.alike:.1f} against {OWN})"
        return f"{self.drop:.2f} points of {self.metric} against {self.against} on {self.images} images{alike}"


def allowed(loss: TaskLoss) -> float:
    return ALLOWED[loss.metric, loss.against]


class Judge:
    """Knows the images, what float32 answers and what is right; scores other answers."""

    def __init__(self, spec: ModelSpec, pictures: Sequence[Picture], size: tuple[int, int], float32: Answer) -> None:
        self.spec = spec
        self.photos = [p.read(size) for p in pictures]
        self.float32 = [float32(photo) for photo in self.photos]
        height, width = self.float32[0].shape
        self.truth: Masks | None = None
        if all(p.mask and p.streets == (spec.task == "street") for p in pictures):
            streets = spec.task == "street"
            self.truth = [(p.classes if streets else p.truth)((height, width)).astype(np.uint8) for p in pictures]

    def loss(self, answer: Answer) -> TaskLoss:
        masks = [answer(photo) for photo in self.photos]
        truth, against = (self.truth, LABELS) if self.truth else (self.float32, OWN)
        streets = self.spec.task == "street"
        own = _mean_iou if streets else _person
        score = _camvid_iou if streets and self.truth else own
        return TaskLoss(
            images=len(masks),
            metric=MEAN if streets else PERSON,
            against=against,
            float32=score(self.float32, truth),
            int8=score(masks, truth),
            agreement=100 * float(np.mean([np.mean(a == b) for a, b in zip(masks, self.float32)])),
            alike=own(masks, self.float32) if self.truth else None,
        )


def _person(masks: Masks, truth: Masks) -> float:
    """Per-image IoU of the person, averaged; an image without one, rightly left empty, counts 100."""
    return 100 * float(np.mean([_iou(a == 1, b == 1) for a, b in zip(masks, truth)]))


def _camvid_iou(masks: Masks, truth: Masks) -> float:
    """`_mean_iou` over CamVid's classes where there is a label, with what CamVid does not tell apart as one class."""
    table = np.arange(256, dtype=np.uint8)
    for fine, coarse in CAMVID_MERGE:
        table[fine] = coarse
    known = [b != VOID for b in truth]
    return _mean_iou([table[a][k] for a, k in zip(masks, known)], [b[k] for b, k in zip(truth, known)])


def _mean_iou(masks: Masks, truth: Masks) -> float:
    """Over all pixels together, averaged over the classes in ``truth``."""
    a, b = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in truth])
    return 100 * float(np.mean([_iou(a == k, b == k) for k in np.unique(b)]))


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
