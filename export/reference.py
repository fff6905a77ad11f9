"""What PyTorch says about the probes: the answers every artifact is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx

from lightseg.export.artifact import Golden
from lightseg.export.graph.capture import capture
from lightseg.export.probes import Image, near_tie, probe_pack
from lightseg.export.rounding import RoundedGraph
from lightseg.export.runner import torch_runner
from lightseg.images import normalise
from lightseg.predict import class_logits, mask_from_logits, probability_from_logits
from lightseg.spec import Labels, Preprocess
from lightseg.zoo import SegmentationModel

Array = NDArray[Any]
"""Float64 where it comes from the reference."""


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


class Reference:
    """Float64 logits of one model at one size, and how far rounding moves them.

    One reference serves all targets of an export.
    """

    def __init__(self, model: SegmentationModel, height: int, width: int) -> None:
        self.model, self.size = model, (height, width)
        self.labels, self.preprocess = model.spec.labels, model.weights.preprocess
        self.probes = probe_pack(height, width)
        self.probes["near_tie"] = near_tie(model.net, self.preprocess, self.probes["photo"])
        double, single = torch_runner(model, double=True), torch_runner(model)
        self.logits: dict[str, Array] = {}
        self._float32: dict[str, Distance] = {}
        for name, image in self.probes.items():
            x = prepared(image, self.preprocess)
            self.logits[name] = double(x)
            self._float32[name] = distance(single(x), self.logits[name])

    @cached_property
    def graph(self) -> fx.GraphModule:
        """The network as captured; copy it before changing it."""
        return capture(self.model, *self.size, self.model.spec.multiple)

    def distances(self, precision: str) -> dict[str, Distance]:
        """How far rounding alone moves each probe: PyTorch's own float32, or every value cut to float16's precision."""
        return self._float16 if precision == "fp16" else self._float32

    @cached_property
    def _float16(self) -> dict[str, Distance]:
        import torch

        rounded = RoundedGraph(self.graph)
        return {
            name: distance(
                rounded.logits(torch.from_numpy(prepared(image, self.preprocess))).numpy(), self.logits[name]
            )
            for name, image in self.probes.items()
        }

    def goldens(self, limits: Mapping[str, Limit]) -> tuple[Golden, ...]:
        """The probes that travel with an artifact; street scenes are large, so only the drawn one goes along."""
        names = ("photo", "scene") if self.model.spec.task == "portrait" else ("scene",)
        return tuple(self._golden(n, limits[n]) for n in names)

    def _golden(self, name: str, limit: Limit) -> Golden:
        logits = self.logits[name]
        stride = max(1, int(np.ceil(np.sqrt(logits.size / 8192))))
        return Golden(
            probe=name,
            image=self.probes[name],
            samples=logits[0, :, ::stride, ::stride].astype(np.float32),
            stride=stride,
            mask=mask_from_logits(logits, self.labels)[0],
            ties=int((margin(logits, self.labels) <= 2 * limit.largest * np.abs(logits).max()).sum()),
            largest=limit.largest,
            mean=limit.mean,
        )


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
    if output == "mask":
        return mask_from_logits(logits, labels)[:, None].astype(np.float64)
    probability = probability_from_logits(logits, labels).astype(np.float64)
    return probability[:, 1:2] if len(labels.names) == 2 else probability


def as_mask(output: Array, kind: str, labels: Labels) -> NDArray[np.uint8]:
    """The class map in an artifact's output, N×H×W."""
    if kind == "logits":
        return mask_from_logits(output, labels)
    if kind == "mask":
        return output[:, 0].astype(np.uint8)
    return (output[:, 0] > 0.5).astype(np.uint8) if output.shape[1] == 1 else output.argmax(1).astype(np.uint8)
