"""The compiler's own list of what it made: fused layers, and the type of every value, held against what was asked."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lightseg.errors import Unsupported
from lightseg.export.tensorrt.network import ORIGIN, Walked

ROW = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w*), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: .*?, StreamId: \d+.*?Metadata: (?P<origins>.*)$",
    re.MULTILINE,
)
VALUE = re.compile(r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[\d,\s-]*)\].*?Datatype: (?P<type>\w+)")
TYPES = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}
"""Types that are a precision, by the network's word and the listing's; indices and truth values are none."""
PRECISIONS = {*TYPES.values(), "BFloat16", "FP8", "FP4", "Int4", "E8M0"}
ORDER = ("signal", "wait")
"""Kinds of rows that order streams and compute nothing."""
WEIGHTED = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")


@dataclass(frozen=True)
class Row:
    """One layer of the engine. The types leave out constants of one number: a convolution's factors 1 and 0."""

    name: str
    kind: str
    reads: tuple[str, ...]
    """Types of inputs and constants."""
    writes: tuple[str, ...]
    origins: tuple[str, ...]
    """The layers of the network it computes."""

    @property
    def types(self) -> set[str]:
        return {*self.reads, *self.writes} & PRECISIONS


def rows_in(messages: Iterable[str]) -> list[Row]:
    """The rows of the last list in what the compiler said; none where it printed none.

    The pattern for a list of values ends at its bracket: the brackets inside are always followed by a comma or brace.
    """
    listing = [m for m in messages if "LayerType: " in m]
    return [_row(match) for match in ROW.finditer(listing[-1])] if listing else []


def _row(match: re.Match[str]) -> Row:
    types = {part: _types(match[part]) for part in ("inputs", "constants", "outputs")}
    return Row(
        match["name"],
        match["kind"],
        types["inputs"] + types["constants"],
        types["outputs"],
        tuple(ORIGIN.findall(match["origins"])),
    )


def _types(text: str) -> tuple[str, ...]:
    found = [(v["type"], [int(d) for d in v["dims"].split(",") if d.strip()]) for v in VALUE.finditer(text)]
    return tuple(kind for kind, dims in found if math.prod(dims) != 1 or len(dims) > 1)


def check_precision(rows: list[Row], network: Walked, what: str) -> None:
    """Every row computes in the types its layers have in the network, and every layer with weights is in a row.

    Errors: `Unsupported` names the first row that does not, or the layer that is missing.
    """
    if not rows:
        raise Unsupported(f"{what}: the compiler lists no layers, so that nobody knows in what types it computes")
    asked = _asked(network)
    everything = set().union(*asked.values())
    for row in rows:
        allowed = set().union(*(asked.get(origin, everything) for origin in row.origins)) if row.origins else everything
        if row.types - allowed or (not row.origins and len(row.types) > 1):
            raise Unsupported(
                f"{what}: {row.kind} {row.name} computes in {', '.join(sorted(row.types))} where the network says "
                f"{', '.join(sorted(allowed))}; the engine is not what was asked for"
            )
    listed = {origin for row in rows for origin in row.origins}
    missing = [step.what for step in network.steps if step.kind in WEIGHTED and step.origin not in listed]
    if missing:
        raise Unsupported(f"{what}: the compiler's list of layers has no {missing[0]}; its precision is unknown")


def _asked(network: Walked) -> dict[str, set[str]]:
    """The types of every layer's values, by the name of the ONNX node it came from."""
    elements = {network.input.name: network.input.element}
    asked: dict[str, set[str]] = {}
    for step in network.steps:
        elements |= {value.name: value.element for value in step.outputs}
        types = {elements[name] for name in (*filter(None, step.inputs), *(value.name for value in step.outputs))}
        asked.setdefault(step.origin, set()).update(TYPES[t] for t in types if t in TYPES)
    return asked


def quantised(network: Walked) -> list[str]:
    """The ONNX nodes of the convolutions whose map and weights are dequantised right before them."""
    grids = {value.name for step in network.steps if step.kind == "DEQUANTIZE" for value in step.outputs}
    convs = [step for step in network.steps if step.kind in ("CONVOLUTION", "DECONVOLUTION")]
    return [step.origin for step in convs if len(step.inputs) > 1 and grids.issuperset(step.inputs[:2])]


def summary(rows: list[Row], network: Walked) -> dict[str, Any]:
    """What the sidecar keeps: how many rows compute, how many layers of the network they fuse, in what types.

    ``int8 convolutions`` are those that read a map and weights of int8 in one row.
    """
    eight = {origin for row in rows if row.reads.count("Int8") > 1 for origin in row.origins}
    working = [row for row in rows if row.kind not in ORDER]
    return {
        "layers": len(working),
        "fused": sum(len(row.origins) > 1 for row in working),
        "network layers": len({origin for row in working for origin in row.origins}),
        "kinds": dict(sorted(Counter(row.kind for row in working).items())),
        "types": dict(sorted(Counter(_said(row) for row in working).items())),
        "int8 convolutions": sum(origin in eight for origin in quantised(network)),
    }


def _said(row: Row) -> str:
    """``Half``, or ``Float to Half`` where a row changes the type."""
    reads, writes = (" and ".join(sorted(set(side) & PRECISIONS)) for side in (row.reads, row.writes))
    return reads if reads == writes else f"{reads or 'whole numbers'} to {writes or 'whole numbers'}"
