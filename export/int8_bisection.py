"""Where an int8 file leaves its grids: values beside what the simulation makes of the file's own values before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import fx

from lightseg.errors import Unsupported
from lightseg.export.artifact import Artifact
from lightseg.export.graph.edit import op_of
from lightseg.export.graph.quantised import FakeQuantise
from lightseg.export.inside import open_inside
from lightseg.export.pipeline import make_plan
from lightseg.export.probes import NATURAL
from lightseg.export.quantization.plan import RECIPE, Wish
from lightseg.export.quantization.recipe import Recipe
from lightseg.export.quantization.steps import END, Steps, compare_steps
from lightseg.export.reference import Reference
from lightseg.export.trace import as_recorded, provenance, request_of
from lightseg.export.verification import model_of

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Value:
    """One quantised value of the file, or its logits."""

    node: str
    operations: tuple[str, ...]
    """What the graph computes it with from the values in ``reads``, the last first."""
    module: str
    source: str
    reads: tuple[str, ...]
    """The quantised values before it, as the file has them."""
    furthest: float
    """Steps the worst number is off; of the logits their error as a share of the largest, and NaN where not shown."""
    off: float
    """Share of the numbers that are off."""
    ok: bool


@dataclass(frozen=True)
class Int8Bisection:
    """What was found on ``probe``: the first probe on which a value is off, or the last."""

    file: str
    probe: str
    runs: str
    culprit: Value | None
    values: tuple[Value, ...]

    @property
    def ok(self) -> bool:
        return self.culprit is None

    @property
    def said(self) -> str:
        if self.culprit is None:
            return "every value is where the simulation puts it, given the file's own values before it"
        c = self.culprit
        what = f"by up to {c.furthest:g} steps, {100 * c.off:.2f} % of its numbers" if c.off else f"by {c.furthest:.2g}"
        return f"the first value off its grid is {c.node}, {what}: {' after '.join(c.operations[:1]) or 'its grid'}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok, "said": self.said}


def simulated(artifact: Artifact, reference: Reference) -> fx.GraphModule:
    """The int8 graph ``artifact`` was written from, made again from its record and the float network of ``reference``.

    Errors: `Unsupported` where the record holds no grids (files of earlier versions) or another graph's.
    """
    target = as_recorded(artifact)
    text = (artifact.quantization or {}).get(RECIPE)
    if text is None or target.int8 is None:
        raise Unsupported(f"the record of {artifact.path.name} holds no int8 grids: export it again with this version")
    plan, _ = make_plan(reference, target, request_of(artifact, Wish(Path())))
    n, c, h, w = plan.input_shape
    shape = (n, h, w, c) if plan.baked else plan.input_shape
    return Recipe.from_text(text).apply(plan.graph, shape, target.int8)


def bisect_int8(artifact: Artifact, weights: str | None = None, reference: Reference | None = None) -> Int8Bisection:
    """Find the first value of an int8 file more than one step from the simulation fed with the file's own inputs.

    Errors: those of `simulated`; `ParityError` where the weights are others or a value is missing.
    """
    reference = reference or Reference(model_of(artifact, weights), *artifact.size)
    graph = simulated(artifact, reference)
    for probe in NATURAL:
        steps = compare_steps(artifact.path, artifact, graph, reference, probe)
        if steps is None:
            raise Unsupported(f"the runtime of {artifact.target} files does not show what --bisect has to see")
        values = tuple(_values(graph, steps, reference.graph))
        if not steps.ok:
            break
    culprit = next((value for value in values if not value.ok), None)
    return Int8Bisection(
        artifact.path.name, probe, open_inside(artifact.target, artifact.path, []).runs, culprit, values
    )


def _values(graph: fx.GraphModule, steps: Steps, captured: fx.GraphModule) -> Iterator[Value]:
    """In the order of execution; products where the runtime shows them."""
    nodes = {node.name: node for node in graph.graph.nodes}
    order = {name: i for i, name in enumerate(nodes)}
    found = [(s.node, s.furthest, s.off, s.ok) for s in steps.steps]
    found += [(p.node, p.off, 0.0, p.ok) for p in steps.products]
    shown = {name for name, *_ in found}
    for name, furthest, off, ok in sorted(found, key=lambda value: order[value[0]]):
        yield _value(graph, nodes[name], shown, captured, furthest, off, ok)
    if steps.end is not None:
        last = next(n for n in graph.graph.nodes if n.op == "output").args[0]
        yield _value(graph, last, shown, captured, steps.end, 0.0, steps.end <= END)


def _value(
    graph: fx.GraphModule,
    node: fx.Node,
    shown: set[str],
    captured: fx.GraphModule,
    furthest: float,
    off: float,
    ok: bool,
) -> Value:
    operations, reads = _before(graph, node, shown)
    origin = node.all_input_nodes[0] if isinstance(op_of(graph, node), FakeQuantise) else node
    module, source = provenance(origin.name, captured)
    return Value(node.name, operations, module, source, reads, furthest, off, ok)


def _before(graph: fx.GraphModule, node: fx.Node, shown: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The operations between ``node`` and the shown values before it, and those values."""
    operations: dict[str, None] = {}
    reads: dict[str, None] = {}
    waiting = [node]
    while waiting:
        at = waiting.pop(0)
        if at is not node and (at.name in shown or at.op == "placeholder"):
            reads[at.name] = None
            continue
        if not isinstance(op_of(graph, at), FakeQuantise):
            operations[f"{type(op_of(graph, at)).__name__} {at.name}"] = None
        waiting += at.all_input_nodes
    return tuple(operations), tuple(reads)


def table(found: Int8Bisection) -> Table:
    """One row per value, in the order of execution."""
    from rich.table import Table

    title = f"{found.file}, probe {found.probe}: steps off the simulation, given the file's own values before"
    rows = Table("value", "computed by", "steps off, at most", "numbers off", "", title=title)
    for value in found.values:
        mark = "FIRST WRONG" if value == found.culprit else "" if value.ok else "wrong"
        rows.add_row(value.node, _first(value.operations), f"{value.furthest:g}", f"{100 * value.off:.3f} %", mark)
    return rows


def _first(operations: tuple[str, ...]) -> str:
    return (
        operations[0] + (f" and {len(operations) - 1} before" if operations[1:] else "") if operations else "its grid"
    )


def summary(found: Int8Bisection) -> str:
    """The verdict, where it comes from, and what was run."""
    lines = [f"{found.file}: {found.said}", f"  run by: {found.runs}"]
    if c := found.culprit:
        lines += [
            f"  module: {c.module or 'none of the network: preprocessing or head'}",
            f"  source: {c.source or 'no line of the network'}",
            f"  computed by: {', '.join(c.operations) or 'its grid alone'}",
            f"  from the file's own values: {', '.join(c.reads)}",
        ]
    return "\n".join(lines)
