"""What PyTorch says about the probes: the answers every artifact is compared with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from torch import fx

from lightseg.export.answers import Array, Distance, Limit, distance, margin, prepared
from lightseg.export.artifact import Golden
from lightseg.export.graph.capture import capture
from lightseg.export.graph.coarse import coarsen
from lightseg.export.probes import NATURAL, near_tie, probe_pack
from lightseg.export.rounding import RoundedGraph
from lightseg.export.runner import torch_runner
from lightseg.predict import mask_from_logits
from lightseg.zoo import SegmentationModel


class Reference:
    """Float64 logits of one model at one size, and how far rounding moves them.

    One reference serves all targets of an export.
    """

    name = "torch float64"
    differs: Mapping[str, float] = {}
    """Where it answers for another network than the model: by probe, the share of pixels whose class that changes."""

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

    def for_output(self, output: str) -> Reference:
        """What PyTorch says where the output is another network's; itself for every exact head."""
        return self.coarse if output == "mask_coarse" else self

    @cached_property
    def coarse(self) -> CoarseReference:
        return CoarseReference(self)

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


class CoarseReference(Reference):
    """The answers of the network that `mask_coarse` is the mask of: the captured graph, cut short."""

    def __init__(self, whole: Reference) -> None:
        self.model, self.size, self.probes = whole.model, whole.size, whole.probes
        self.labels, self.preprocess = whole.labels, whole.preprocess
        self.graph = copy.deepcopy(whole.graph)
        coarsen(self.graph)
        double, single = torch_runner(self.graph, double=True), torch_runner(copy.deepcopy(self.graph).float())
        self.logits, self._float32 = {}, {}
        for name, image in self.probes.items():
            x = prepared(image, self.preprocess)
            self.logits[name] = double(x)
            self._float32[name] = distance(single(x), self.logits[name])
        self.differs = {name: self._differs(name, whole) for name in NATURAL}

    def for_output(self, output: str) -> Reference:
        return self

    def _differs(self, name: str, whole: Reference) -> float:
        exact, coarse = (mask_from_logits(r.logits[name], self.labels) for r in (whole, self))
        enlarged = enlarge(coarse, exact.shape[1:])
        return float((enlarged != exact).mean())


def enlarge(mask: Array, size: tuple[int, ...]) -> Array:
    """N×h×w classes, each repeated over its block, as N×H×W."""
    result: Array = mask.repeat(size[0] // mask.shape[1], 1).repeat(size[1] // mask.shape[2], 2)
    return result
