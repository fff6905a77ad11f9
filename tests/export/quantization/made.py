"""A small lively network in int8, per target, made once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import fx

from lightseg.export.artifact import Artifact
from lightseg.export.pipeline import Request, describe, in_int8, make_plan
from lightseg.export.quantization.plan import Quantised, Wish
from lightseg.export.reference import Reference
from lightseg.export.targets import TARGETS, Plan
from tests.export.quantization.photos import write_photos
from tests.export.subjects import lively, reference

INT8 = [t.name for t in TARGETS.values() if t.int8]
ANYTHING = 100.0
"""A random network's masks waver: what it loses is not what these tests ask."""


@dataclass(frozen=True)
class Made:
    """A plan for a target, the reference that goes with it, and the record of its file."""

    plan: Plan
    simulated: Reference
    quantised: Quantised
    record: Artifact

    @property
    def graph(self) -> fx.GraphModule:
        return self.quantised.graph


@cache
def photographs() -> Path:
    return write_photos(Path(tempfile.mkdtemp(prefix="lightseg-photographs-")), 16)


@cache
def made(name: str, target: str, baked: bool = False) -> Made:
    """Do not change it."""
    known, into = reference(name), TARGETS[target]
    wish = Wish(photographs(), max_drop=ANYTHING)
    preprocess = "baked" if baked else "none"
    request = Request("int8", known.size, preprocess=preprocess, int8=wish)
    plan, changes = make_plan(known, into, request)
    plan, simulated, quantised = in_int8(plan, known, into, wish)
    path = Path(f"trial{into.suffix}")
    record = describe(lively(name), into, request, plan, changes, simulated, path)
    return Made(plan, simulated, quantised, record)
