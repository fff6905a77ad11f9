"""Faults before any file is written: in the capture, in a rewrite, or in what was put around the network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import wraps

import numpy as np
import torch
from torch import Tensor, fx

from lightseg.export.answers import MASKS, Array, as_output, prepared
from lightseg.export.reference import Reference
from lightseg.export.rewrites import Rewrite, rewrite
from lightseg.export.targets import Plan

MOVED = 1e-6
"""A step between graphs that moves float64 logits by a larger share of the largest is wrong: rounding moves 1e-12."""
ENDS = {"logits": 1e-4, "probability": 1e-4, "mask": 1e-3, "mask_coarse": 1e-3}
"""The same with preprocessing or a head, which the reference computes in float32; of masks the share of pixels."""


def wrong_graph(plan: Plan, reference: Reference, probe: str, rewrites: Sequence[Rewrite]) -> tuple[str, str] | None:
    """What is at fault in the graph a file is written from, and details; None where the graph is the network."""
    logits, model = reference.logits[probe], reference.model
    limit = MOVED if plan.output == "logits" and not plan.baked else ENDS[plan.output]
    image = reference.probes[probe]
    taken = torch.tensor(image[None]) if plan.baked else _double(prepared(image, reference.preprocess))
    want = as_output(logits, plan.output, model.spec.labels)
    if off(_run(plan.graph, taken), want.astype(np.uint8) if plan.output in MASKS else want) <= limit:
        return None
    x = _double(prepared(image, reference.preprocess))
    captured = off(_run(reference.graph, x), logits)
    if not captured <= MOVED:
        return "capture", f": it is off by {captured:.2g} of the largest logit before any rewrite"
    name = _first_wrong(reference.graph, rewrites, x, logits)
    return ("rewrite", f": {name}") if name else ("ends", "")


def _first_wrong(graph: fx.GraphModule, rewrites: Sequence[Rewrite], x: Tensor, logits: Array) -> str | None:
    """The rewrite after which the function is another."""
    found: list[str] = []

    def watched(rule: Rewrite) -> Rewrite:
        @wraps(rule)
        def apply(changed: fx.GraphModule) -> int:
            count = rule(changed)
            if count and not found:
                changed.recompile()
                if not off(_run(changed, x), logits) <= MOVED:
                    found.append(rule.__name__)
            return count

        return apply

    rewrite(copy.deepcopy(graph), [watched(rule) for rule in rewrites])
    return found[0] if found else None


def off(got: Array, want: Array, floor: float = 0.0) -> float:
    """|Δ| as a share of the largest value, or of ``floor`` where that is larger.

    Of class maps it is the share of pixels; infinity where the shapes differ.
    """
    if got.shape != want.shape:
        return float("inf")
    if want.dtype == np.uint8:
        return float((got != want).mean())
    largest = max(float(np.abs(want).max()), floor)
    return float(np.abs(got.astype(np.float64) - want).max()) / (largest or 1.0)


def _double(x: Array) -> Tensor:
    return torch.from_numpy(x).double()


def _run(graph: fx.GraphModule, x: Tensor) -> Array:
    with torch.inference_mode():
        result: Array = graph(x).numpy()
    return result
