"""Where a file leaves PyTorch: its values beside those of the graph it was written from, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightseg.export.parity import Parity, measure
from lightseg.export.record import read_artifact
from lightseg.export.reference import Reference
from lightseg.export.trace import Layer, Trace
from lightseg.export.verification import check_comparable, load, model_of
from lightseg.export.wrong_graph import wrong_graph

BLAMES = {
    "nothing": "every operation passes",
    "capture": "the graph captured from the network is not the network",
    "rewrite": "a rewrite changed the function",
    "ends": "the preprocessing or the head around the network is wrong in the graph",
    "operation": "an operation of the file does not compute what the graph says",
    "whole": "every operation passes and the file run whole does not: look at fusion, layout or the runner",
}


@dataclass(frozen=True)
class Bisection:
    """What was found. ``blame`` is a key of `BLAMES`; ``culprit`` the first layer that fails on inputs that pass."""

    file: str
    probe: str
    """The one the whole file does worst on; all figures are of it."""
    runs: str
    """What computed the values, and how that differs from running the file."""
    equal: bool
    """Whether the file, run whole, equals PyTorch on every probe."""
    blame: str
    said: str
    culprit: Layer | None
    second_opinion: tuple[str, float] | None
    """The culprit alone by other kernels of the same runtime: their name and the error."""
    layers: tuple[Layer, ...]

    @property
    def ok(self) -> bool:
        return self.blame == "nothing"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def bisect(path: str | Path, weights: str | None = None, reference: Reference | None = None) -> Bisection:
    """Find the first operation of the file ``path`` that goes wrong, on the probe the whole file does worst on.

    The network is captured again and rewritten as the file's record says; ``.failed`` files are welcome.

    Errors: `Unsupported` where the target shows no intermediate values or the record names a rewrite that is gone;
    `ParityError` where the weights are others; those of `read_artifact`.
    """
    trace, parity = traced(path, weights, reference)
    return bisection(trace, parity)


def traced(path: str | Path, weights: str | None, reference: Reference | None = None) -> tuple[Trace, Parity]:
    """The file opened beside its graph, and how it does when it is run whole."""
    artifact = read_artifact(Path(path))
    check_comparable(artifact)
    runner = load(artifact.path)
    reference = reference or Reference(model_of(artifact, weights), *artifact.size)
    parity = measure(artifact, runner, reference)
    return Trace(artifact, reference, parity.worst.probe), parity


def bisection(trace: Trace, parity: Parity) -> Bisection:
    layers = tuple(trace.layers())
    wrong = wrong_graph(trace.plan, trace.reference, trace.probe, trace.target.rewrites())
    culprit = None if wrong else _culprit(layers, parity.ok)
    if wrong:
        blame, detail = wrong
    elif culprit:
        blame, detail = "operation", _about(culprit, layers)
    else:
        blame, detail = ("nothing", "") if parity.ok else ("whole", f" ({parity.worst})")
    return Bisection(
        file=trace.artifact.path.name,
        probe=trace.probe,
        runs=trace.inside.runs,
        equal=parity.ok,
        blame=blame,
        said="; ".join([BLAMES[blame] + detail, *_notes(trace)]),
        culprit=culprit,
        second_opinion=trace.second_opinion(culprit.node) if culprit else None,
        layers=layers,
    )


def _culprit(layers: tuple[Layer, ...], equal: bool) -> Layer | None:
    """In a file that passes as a whole, errors that only grew on the way are no fault of anybody."""
    grown = first_to_fail(layers)
    if grown is None and not equal:
        return next((layer for layer in layers if not layer.passes_alone), None)
    return None if grown and equal and grown.passes_alone else grown


def first_to_fail(layers: tuple[Layer, ...]) -> Layer | None:
    """The first layer whose inputs pass and whose output does not."""
    failing: set[str] = set()
    for layer in layers:
        if not layer.passes:
            if failing.isdisjoint(layer.reads):
                return layer
            failing.add(layer.node)
    return None


def _about(culprit: Layer, layers: tuple[Layer, ...]) -> str:
    alone = [layer.node for layer in layers if not layer.passes_alone]
    others = [node for node in alone if node != culprit.node]
    said = f": {culprit.operation} {culprit.node}"
    if culprit.passes_alone:
        said += ", which passes alone from exact inputs: smaller errors before it grow here"
    return said + (f" (failing alone besides: {', '.join(others)})" if others else "")


def _notes(trace: Trace) -> Iterator[str]:
    if trace.changes != trace.artifact.changes:
        yield (
            "this version's rewrites change other places than the file's record says, so values of one name may "
            "differ on purpose: export it again to be sure"
        )
