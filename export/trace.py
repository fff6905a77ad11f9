"""One file and one image: every value the file computes, beside the exact value of the graph it was written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from lightseg.errors import Unsupported
from lightseg.export.answers import Array, prepared
from lightseg.export.artifact import Artifact
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.values import Rounded, exact_values, rounded_values
from lightseg.export.inside import Inside, open_inside
from lightseg.export.inside.part import IMAGE
from lightseg.export.parity import ROUNDING
from lightseg.export.pipeline import Request, make_plan
from lightseg.export.quantization.plan import Wish
from lightseg.export.reference import Reference
from lightseg.export.rewrites import REWRITES, Rewrite
from lightseg.export.targets import Target, find_target
from lightseg.export.wrong_graph import off


@dataclass(frozen=True)
class Layer:
    """One value of the file. Errors are shares of the largest exact value; None where the file does not show it.

    What is allowed is the tolerance the file was proven with and `ROUNDING` times what rounding alone does to PyTorch's
    own float32 (for float16 files, to eleven bits), both on this value.
    """

    node: str
    operation: str
    module: str
    """Path of the module in the PyTorch network; empty for the preprocessing and the head."""
    source: str
    """``file:line: code`` of the call it came from."""
    reads: tuple[str, ...] = ()
    """The values the file computes it from."""
    cumulative: float | None = None
    """With all that went wrong before."""
    cumulative_allowed: float = 0.0
    isolated: float | None = None
    """Computed alone, from exact inputs."""
    isolated_allowed: float = 0.0

    @property
    def passes(self) -> bool:
        """NaN compares false and so never passes."""
        return self.cumulative is None or self.cumulative <= self.cumulative_allowed

    @property
    def passes_alone(self) -> bool:
        return self.isolated is None or self.isolated <= self.isolated_allowed


class Trace:
    """``probe`` is the name of the image; the graph is captured, rewritten and finished as the file's record says."""

    def __init__(self, artifact: Artifact, reference: Reference, probe: str) -> None:
        reference = reference.for_output(artifact.output)
        self.artifact, self.reference, self.probe = artifact, reference, probe
        self.target = as_recorded(artifact)
        self.plan, self.changes = make_plan(reference, self.target, request_of(artifact))
        self.half = artifact.precision == "fp16"
        tiny = np.finfo(np.float16 if self.half else np.float32).tiny
        self._floor = float(tiny) / artifact.tolerance["relative"]
        self.x = prepared(reference.probes[probe], artifact.feeds)
        self.exact = exact_values(self.plan.graph, self._taken())
        self._last = next(n for n in self.plan.graph.graph.nodes if n.op == "output").args[0].name
        names = [self.name_in_file(node.name) for node, _ in op_nodes(self.plan.graph)]
        self.inside: Inside = open_inside(artifact.target, artifact.path, names)
        self.found = self.inside.values(self.x)

    def _taken(self) -> Tensor:
        """The image as the graph takes it."""
        x = torch.from_numpy(self.x)
        return x.permute(0, 2, 3, 1).to(torch.uint8) if self.plan.baked else x.double()

    def layers(self) -> Iterator[Layer]:
        """In the order of execution."""
        for rounded in rounded_values(self.plan.graph, self.exact, self.half):
            yield self._layer(rounded)

    def _layer(self, rounded: Rounded) -> Layer:
        node = rounded.node
        op = self.plan.graph.get_submodule(str(node.target))
        empty = Layer(node.name, type(op).__name__, *provenance(node.name, self.reference.graph))
        name, want = self.name_in_file(node.name), self.exact[node.name].numpy()
        if name not in self.found:
            return empty
        tolerance = self.artifact.tolerance
        limit = 1 - tolerance["agreement"] if want.dtype == np.uint8 else tolerance["relative"]
        return replace(
            empty,
            reads=self.inside.reads(name),
            cumulative=self._off(self.found[name], want),
            cumulative_allowed=limit + ROUNDING * self._off(rounded.chained.numpy(), want),
            isolated=self._off(self.inside.alone(name, self.given(name)), want),
            isolated_allowed=limit + ROUNDING * self._off(rounded.alone.numpy(), want),
        )

    def _off(self, got: Array, want: Array) -> float:
        """Below the smallest normal number of its type a runtime may return anything, zero above all."""
        return off(got, want, self._floor)

    def name_in_file(self, node: str) -> str:
        """The last value has the output's name."""
        return self.artifact.output if node == self._last else node

    def given(self, name: str) -> dict[str, Array]:
        """The exact values the file computes ``name`` from."""
        return {read: self.x if read == IMAGE else self.exact[read].numpy() for read in self.inside.reads(name)}

    def second_opinion(self, node: str) -> tuple[str, float] | None:
        name = self.name_in_file(node)
        other = self.inside.second_opinion(name, self.given(name))
        return other and (other[0], self._off(other[1], self.exact[node].numpy()))


def request_of(a: Artifact, int8: Wish | None = None) -> Request:
    """What the record says was asked for."""
    return Request(a.precision, a.size, a.output, "baked" if a.baked else "none", a.dynamic, int8=int8)  # type: ignore[arg-type]


def as_recorded(artifact: Artifact) -> Target:
    """The target with the rewrites that were applied, in their order. Errors: `Unsupported` where one is gone."""
    target = find_target(artifact.target)
    known: dict[str, Rewrite] = {rule.__name__: rule for rule in (*REWRITES, *target.rewrites())}
    gone = [name for name in artifact.changes if name not in known]
    if gone:
        raise Unsupported(
            f"{artifact.path.name} was made with the rewrite {gone[0]}, which this version has not; export it again"
        )
    rules = tuple(known[name] for name in artifact.changes)
    return replace(target, rewrites=lambda: rules)


def provenance(name: str, captured: fx.GraphModule) -> tuple[str, str]:
    """Module and source line of a value; what a rewrite made is named after the value it stands for."""
    known: dict[str, dict[str, Any]] = {node.name: node.meta for node in captured.graph.nodes}
    while name and name not in known:
        name = name.rpartition("_")[0]
    meta = known.get(name, {})
    return meta.get("module", ""), meta.get("source", "")
