"""The sharp half of an int8 proof: every value of the file on its grid, from the file's own values before it.

End to end, an int8 network is chaotic: one value that lies between two steps and falls to the other side moves others
across, until as many have moved as ever can, however exact the kernels are. So the logits can be compared only as
closely as that allows. Value by value there is no such excuse. Given what the file itself computed before, each value
has its right whole number, and a sound kernel meets it but for the few that lie between two steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from lightseg.errors import ParityError
from lightseg.export.answers import Array
from lightseg.export.artifact import Artifact
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.inside import INSIDES, open_inside
from lightseg.export.quantization.scheme import Products
from lightseg.export.quantization.simulation import as_input
from lightseg.export.reference import Reference
from lightseg.export.targets import find_target
from lightseg.export.wrong_graph import off

SHARE = 0.01
"""Of a value's numbers, how many may be one step off; none may be two. Float32 kernels of
the portrait networks leave at most 0.0001; a zero point that is wrong by one moves all of them."""

END = 1e-3
"""The error the logits may have, as a share of the largest, where the file's own values before them are given: what
lies between is float32. Seen: at most 2e-6."""


@dataclass(frozen=True)
class Step:
    """One quantised value of the file beside the simulation of it."""

    node: str
    furthest: float
    """Steps the worst number is off."""
    off: float
    """Share of the numbers that are off at all."""
    numbers: int

    @property
    def ok(self) -> bool:
        """NaN compares false. In a small map one single number may be the one between two steps."""
        return self.furthest <= 1 and self.off * self.numbers <= max(1.0, SHARE * self.numbers)


@dataclass(frozen=True)
class Product:
    """What one int8 convolution of the file returns in float beside the exact product of its whole numbers."""

    node: str
    off: float
    """The worst number's error, as a share of its product and bias."""
    allowed: float

    @property
    def ok(self) -> bool:
        return self.off <= self.allowed


@dataclass(frozen=True)
class Steps:
    """All values of one probe."""

    probe: str
    steps: tuple[Step, ...]
    products: tuple[Product, ...] = ()
    """Empty where the runtime does not show them."""
    end: float | None = None
    """The logits' error from the values before them, as a share of the largest; None where the file ends elsewhere."""

    @property
    def worst(self) -> Step:
        return max(self.steps, key=lambda s: (not s.ok, s.off))

    @property
    def ok(self) -> bool:
        whole = all(s.ok for s in self.steps) and all(p.ok for p in self.products)
        return whole and (self.end is None or self.end <= END)

    def check(self, what: str) -> None:
        """Errors: `ParityError` for the first value that is not where the simulation puts it."""
        wrong = next((s for s in self.steps if not s.ok), None)
        if wrong:
            raise ParityError(
                f"{what}: the value {wrong.node} is off its int8 grid on probe {self.probe}: {100 * wrong.off:.2f} % "
                f"of its numbers (allowed {100 * SHARE:g} %), by up to {wrong.furthest:g} steps (allowed 1)"
            )
        product = next((p for p in self.products if not p.ok), None)
        if product:
            raise ParityError(
                f"{what}: the value {product.node} is off its int8 product on probe {self.probe}: by up to "
                f"{product.off:.2g} of product and bias (allowed {product.allowed:g})"
            )

        if not self.ok:
            raise ParityError(
                f"{what}: the logits do not follow from the int8 values before them on probe {self.probe}: off by "
                f"{self.end:.2g} of the largest (allowed {END:g})"
            )

    def to_dict(self) -> dict[str, Any]:
        known = {"probe": self.probe, "values": len(self.steps), "worst": asdict(self.worst), "end": self.end}
        if not self.products:
            return known
        worst = max(self.products, key=lambda p: p.off / p.allowed)
        return known | {"products": len(self.products), "worst_product": asdict(worst)}


def compare_steps(
    path: Path, artifact: Artifact, graph: fx.GraphModule, reference: Reference, probe: str
) -> Steps | None:
    """The file ``path`` beside the quantised ``graph``; None where its runtime shows no values."""
    if artifact.target not in INSIDES:
        return None
    baked = artifact.baked
    scheme = find_target(artifact.target).int8
    products = scheme.products if scheme else None
    kinds = (FakeQuantise, QuantisedConv) if products else (FakeQuantise,)
    nodes = [n.name for n in graph.graph.nodes if isinstance(op_of(graph, n), kinds)]
    x = as_input(reference.probes[probe], reference.preprocess, baked)
    fed = (x.permute(0, 3, 1, 2) if baked else x).numpy()
    shown = open_inside(artifact.target, path, [*nodes, artifact.output]).values(fed)
    last = next(n for n in graph.graph.nodes if n.op == "output").args[0].name
    if artifact.output == "logits" and "logits" in shown:  # the file's last value has the output's name
        shown[last] = shown[artifact.output]
    missing = [name for name in nodes if name not in shown]
    if missing:
        raise ParityError(f"{path.name} does not hold the value {missing[0]} of the graph it was written from")
    follower = _Follower(graph, shown, products)
    with torch.inference_mode():
        logits = follower.run(x if baked else x.double()).numpy()
    end = off(shown["logits"], logits) if artifact.output == "logits" and "logits" in shown else None
    return Steps(probe, tuple(follower.steps), tuple(follower.products), end)


class _Follower(fx.Interpreter):
    """Runs the graph with the file's quantised values, and its products where they are shown, in place of its own."""

    def __init__(self, graph: fx.GraphModule, shown: Mapping[str, Array], allowed: Products | None) -> None:
        super().__init__(graph)
        self.graph_module, self.shown, self.allowed = graph, shown, allowed
        self.steps: list[Step] = []
        self.products: list[Product] = []

    def run_node(self, n: fx.Node) -> Any:
        op = op_of(self.graph_module, n)
        if isinstance(op, FakeQuantise):
            return self._step(n, op)
        if isinstance(op, QuantisedConv) and self.allowed:
            return self._product(n, op, super().run_node(n), self.allowed)
        return super().run_node(n)

    def _step(self, n: fx.Node, op: FakeQuantise) -> Tensor:
        want = op.integers(self.env[n.args[0]])  # type: ignore[index]
        got = _integers(self.shown[n.name], op)
        off = (got - want).abs()
        self.steps.append(Step(n.name, float(off.max()), float((off != 0).double().mean()), off.numel()))
        return (got - op.zero_point) * op.scale

    def _product(self, n: fx.Node, op: QuantisedConv, want: Tensor, allowed: Products) -> Tensor:
        assert op.bias is not None
        got = torch.from_numpy(np.ascontiguousarray(self.shown[n.name])).double()
        bias = op.bias[:, None, None]
        # What is no multiple of a product's smallest step is PyTorch's own rounding.
        size = (want - bias).abs() + bias.abs() + op.bias_scale[:, None, None]
        limit = allowed.depthwise if op.is_depthwise else allowed.dense
        self.products.append(Product(n.name, float(((got - want).abs() / size).max()), limit))
        return got


def _integers(shown: Array, op: FakeQuantise) -> Tensor:
    """What the file has: the whole numbers themselves, or what they are worth. A number between is none."""
    value = torch.from_numpy(np.ascontiguousarray(shown))
    if value.dtype == torch.uint8:
        return value.double() - 128
    if value.dtype == torch.int8:
        return value.double()
    steps = value.double() / op.scale + op.zero_point
    whole = torch.round(steps)
    return torch.where((steps - whole).abs() < 1e-3, whole, torch.nan)
