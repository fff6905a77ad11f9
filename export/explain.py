"""What the rewrites of a target do to a model, rewrite by rewrite; nothing is written or run."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from lightseg.export.graph.capture import capture
from lightseg.export.graph.compose import append_head
from lightseg.export.graph.cost import NOTHING, Cost, cost
from lightseg.export.pipeline import Request
from lightseg.export.rewrites import Rewrite, rewrite
from lightseg.export.targets import Target, find_target
from lightseg.zoo import SegmentationModel

if TYPE_CHECKING:
    from rich.table import Table
    from torch import fx


@dataclass(frozen=True)
class Step:
    """What one rewrite changed in all its turns together."""

    rewrite: str
    reason: str
    """The first line of the rewrite's module: why it is there."""
    places: int
    change: Cost
    """What was there after it less what was there before it."""

    def to_dict(self) -> dict[str, Any]:
        return {"rewrite": self.rewrite, "reason": self.reason, "places": self.places, **_counts(self.change)}


@dataclass(frozen=True)
class Explanation:
    """The cost before and after, and the steps between; before + all changes = after."""

    model: str
    target: str
    before: Cost
    steps: tuple[Step, ...]
    after: Cost

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "target": self.target,
            "before": _counts(self.before),
            "steps": [step.to_dict() for step in self.steps],
            "after": _counts(self.after),
        }


def _counts(c: Cost) -> dict[str, Any]:
    return {
        "ops": c.count,
        "ops_by_kind": dict(sorted(c.ops.items())),
        "macs": c.macs,
        "bytes_moved": c.bytes_moved,
        "transposes": c.transposes,
    }


def explain(model: SegmentationModel, to: Sequence[str], request: Request | None = None) -> tuple[Explanation, ...]:
    """What each target in ``to`` makes of ``model``'s captured graph with the head of ``request``.

    Preprocessing is baked in after the rewrites, so it is no part of this. Errors: `UnknownName`, `Unsupported`,
    `BadInput` for an impossible size; the targets' own packages are not needed.
    """
    request = request or Request()
    targets = [find_target(name) for name in to]
    for target in targets:
        request.check_words(model, target)
    captured = capture(model, *request.size(model), model.spec.multiple)
    append_head(captured, model.spec, request.output)
    return tuple(_explained(model.name, target, copy.deepcopy(captured)) for target in targets)


def _explained(name: str, target: Target, graph: fx.GraphModule) -> Explanation:
    before, steps = explain_rewrites(graph, target.rewrites())
    return Explanation(name, target.name, before, steps, _cost(graph))


def explain_rewrites(graph: fx.GraphModule, rewrites: tuple[Rewrite, ...]) -> tuple[Cost, tuple[Step, ...]]:
    """Rewrite ``graph`` until nothing is found; return its cost before, and what each rewrite changed.

    The rewrites take turns, and a change is booked to the one that made it: where `push_affine` moves a batch norm in
    front of a branch, `fold_affine` is what removes it there.
    """
    before = last = _cost(graph)
    changes = {r.__name__: NOTHING for r in rewrites}

    def watched(rule: Rewrite) -> Rewrite:
        @wraps(rule)
        def turn(graph: fx.GraphModule) -> int:
            nonlocal last
            places = rule(graph)
            if places:
                now = _cost(graph)
                changes[rule.__name__] += now - last
                last = now
            return places

        return turn

    places = rewrite(graph, [watched(r) for r in rewrites])
    steps = (Step(r.__name__, _reason(r), places[r.__name__], changes[r.__name__]) for r in rewrites)
    return before, tuple(steps)


def _cost(graph: fx.GraphModule) -> Cost:
    return cost(graph, graph.meta["input_shape"])


def _reason(rule: Rewrite) -> str:
    return (sys.modules[rule.__module__].__doc__ or "").partition("\n")[0]


def table(explanation: Explanation) -> Table:
    """The explanation for a terminal; millions of MACs, megabytes moved."""
    from rich.table import Table

    e = explanation
    made = Table(title=f"{e.model} for {e.target}", title_justify="left", show_edge=False)
    made.add_column("rewrite")
    for column in ("places", "ops", "MACs, M", "moved, MB", "transposes"):
        made.add_column(column, justify="right")
    made.add_column("operations added and removed")
    made.add_row("captured", "", *_cells(e.before, "d"), "", end_section=True)
    for step in e.steps:
        kinds = ", ".join(f"{n:+d} {kind}" for kind, n in sorted(step.change.ops.items(), key=lambda item: item[1]))
        cells = _cells(step.change, "+d") if step.places else [""] * 4
        made.add_row(step.rewrite, str(step.places), *cells, kinds, end_section=step is e.steps[-1])
    made.add_row("written", "", *_cells(e.after, "d"), "")
    return made


def _cells(c: Cost, whole: str) -> list[str]:
    sign = whole.rstrip("d")
    macs, moved = f"{c.macs / 1e6:{sign}.2f}", f"{c.bytes_moved / 1e6:{sign}.2f}"
    return [f"{c.count:{whole}}", macs, moved, f"{c.transposes:{whole}}"]
