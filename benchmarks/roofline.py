"""What no execution operator by operator can beat: counted work and traffic over this machine's measured ceilings.

An operator takes at least its MACs over the fastest matrix product seen, and at least its bytes over the fastest copy
seen of as many bytes; the larger of the two is its bound. Bytes are those of `lightseg.benchmarks.counting.cost`: every
input and output once. A copy that fits a cache is fast, so the bound takes for granted that inputs lie in the nearest
cache they fit. Bounds are derived; where a runtime has a profiler, its own times stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.counting.cost import Cost, Kind, LayerCost
from lightseg.benchmarks.counting.operators import kind_of

if TYPE_CHECKING:
    from rich.table import Table

ELEMENTWISE = "element-wise"
GROUPS: dict[Kind, str] = {
    "conv": "convolution k×k", "depthwise": "depthwise", "transposed conv": "transposed", "linear": "convolution 1×1",
    "norm": ELEMENTWISE, "activation": ELEMENTWISE, "elementwise": ELEMENTWISE, "resize": "resize", "pool": "pool",
    "concat": "data movement", "layout": "data movement", "cast": "data movement", "other": "other",
}  # fmt: skip
ONE_TAP: dict[Kind, str] = {"conv": "convolution 1×1", "depthwise": ELEMENTWISE}
"""A depthwise convolution of one tap multiplies each channel by a number."""
RENAMED = ("_nchwc",)
"""What ONNX Runtime puts behind the names of operators that it moves into its own layout."""


@dataclass(frozen=True)
class Group:
    """Operators of one sort. Milliseconds; ``measured`` is None without a profile."""

    name: str
    operators: int
    macs: int
    bytes: int
    work: float
    traffic: float
    bound: float
    """The sum over operators of the larger of the two."""
    measured: float | None


@dataclass(frozen=True)
class Roofline:
    """One network against one machine; see the module's docstring."""

    source: str
    groups: tuple[Group, ...]
    ceilings: Mapping[str, Any]
    profile: str
    """Where the measured times come from, or why there are none."""

    @property
    def arithmetic(self) -> float:
        """Milliseconds of the multiply-accumulates alone: the roofline of the network as one operator."""
        return sum(group.work for group in self.groups)

    @property
    def bound(self) -> float:
        return sum(group.bound for group in self.groups)

    @property
    def fused(self) -> float:
        """The bound where every element-wise operator is computed by the operator in front, for nothing."""
        return sum(group.bound for group in self.groups if group.name != ELEMENTWISE)

    @property
    def measured(self) -> float | None:
        times = [group.measured for group in self.groups if group.measured is not None]
        return sum(times) if times else None

    def to_dict(self) -> dict[str, Any]:
        totals = {name: getattr(self, name) for name in ("arithmetic", "fused", "bound", "measured")}
        groups = [vars(group) for group in self.groups]
        return {"unit": "ms", **totals, "groups": groups, "profile": self.profile, "ceilings": dict(self.ceilings)}


def roofline(cost: Cost, ceilings: Mapping[str, Any], profile: Mapping[str, Any]) -> Roofline:
    """``ceilings`` as `measure_ceilings` and ``profile`` as `lightseg.benchmarks.layers.profiled` return them."""
    layers = [layer for layer in cost.layers if layer.kind != "view"]
    sorts = {layer.name: _sort(layer) for layer in layers}
    times: dict[str, float] = {}
    for timed in profile.get("layers", ()):
        sort = _sort_of(timed, sorts)
        times[sort] = times.get(sort, 0.0) + timed["least"]
    names = dict.fromkeys([*GROUPS.values(), *ONE_TAP.values()])
    found = [_group(name, [x for x in layers if sorts[x.name] == name], ceilings, times) for name in names]
    told = profile.get("source") or profile.get("reason", "not asked for")
    return Roofline(cost.source, tuple(g for g in found if g.operators or g.measured), ceilings, told)


def _sort(layer: LayerCost) -> str:
    return ONE_TAP.get(layer.kind, GROUPS[layer.kind]) if layer.taps == 1 else GROUPS[layer.kind]


def _sort_of(timed: Mapping[str, Any], known: Mapping[str, str]) -> str:
    """By its name in the file, which most runtimes keep; what a runtime added itself, by its kind."""
    name = timed["name"]
    for ending in RENAMED:
        name = name.removesuffix(ending)
    return known.get(name) or GROUPS[kind_of(timed["op"])]


def _group(name: str, layers: Sequence[LayerCost], ceilings: Mapping[str, Any], times: Mapping[str, float]) -> Group:
    work = [1e3 * layer.macs / ceilings["macs_per_second"] for layer in layers]
    moved = [layer.bytes_read + layer.bytes_written for layer in layers]
    traffic = [1e3 * size / _rate(size, ceilings["bytes_per_second_of"]) for size in moved]
    bound = sum(max(pair) for pair in zip(work, traffic))
    measured = times.get(name, 0.0) if times else None
    macs = sum(layer.macs for layer in layers)
    return Group(name, len(layers), macs, sum(moved), sum(work), sum(traffic), bound, measured)


def _rate(size: int, rates: Sequence[Sequence[float]]) -> float:
    """Bytes per second of the largest measured copy that is no larger, or of a larger one that was faster."""
    within = max((moved for moved, _ in rates if moved <= size), default=min(moved for moved, _ in rates))
    return max(rate for moved, rate in rates if moved >= within)


def roofline_table(found: Roofline) -> Table:
    """Milliseconds by sort of operator."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"{found.source}: least milliseconds", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("operators")
    for name in ("number", "MACs", "bytes", "by work", "by traffic", "bound", "measured", "bound / measured"):
        table.add_column(name, justify="right", no_wrap=True)
    for g in found.groups:
        numbers = f"{g.work:.3f}", f"{g.traffic:.3f}", f"{g.bound:.3f}"
        table.add_row(g.name, str(g.operators), f"{g.macs:,}", f"{g.bytes:,}", *numbers, *_against(g.bound, g.measured))
    sums = [sum(values) for values in zip(*((g.operators, g.macs, g.bytes, g.work, g.traffic) for g in found.groups))]
    shown = [f"{value:,}" for value in sums[:3]] + [f"{value:.3f}" for value in (*sums[3:], found.bound)]
    table.add_row("all", *shown, *_against(found.bound, found.measured))
    return table


def _against(bound: float, measured: float | None) -> tuple[str, str]:
    return ("", "") if measured is None else (f"{measured:.3f}", f"{bound / measured:.0%}" if measured else "")


def conclusions(found: Roofline) -> list[str]:
    """What the table adds up to, one line each."""
    c, taken = found.ceilings, found.measured
    rates = ", ".join(f"{rate / 1e9:.0f} GB/s of {moved / 2**20:.3g} MiB" for moved, rate in c["bytes_per_second_of"])
    lines = [f"measured ceilings of one thread: {c['macs_per_second'] / 1e9:.1f} GMAC/s, copies {rates}"]
    for said, value in (
        ("arithmetic alone, the whole network as one operator", found.arithmetic),
        ("operator by operator, element-wise ones free", found.fused),
        ("operator by operator, each by itself", found.bound),
    ):
        share = "" if taken is None else f": {value / taken:.0%} of what was measured"
        lines.append(f"bound, {said}: {value:.3f} ms{share}")
    least = "" if taken is None else f"; the least of each operator, together {taken:.3f} ms"
    return [*lines, f"measured: {found.profile}{least}"]
