"""Layer by layer: a strip in the order of execution, and the share of every kind of operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lightseg.benchmarks.page.plots import svg

WIDTH, HEIGHT = 1000, 34
THINNEST = 0.4
"""Pixels a layer takes at least, so that none disappears."""
COLOURS = {
    "conv": "k0", "depthwise": "k1", "transposed conv": "k0", "linear": "k0", "activation": "k2", "elementwise": "k3",
    "resize": "k4", "pool": "k5", "concat": "k6", "layout": "k7", "cast": "k7", "norm": "k8", "other": "k8",
}  # fmt: skip
LEGEND = (
    ("k0", "convolution"), ("k1", "depthwise"), ("k2", "activation"), ("k3", "elementwise"), ("k4", "resize"),
    ("k5", "pool"), ("k6", "concat"), ("k7", "layout, cast"), ("k8", "other"),
)  # fmt: skip
MOST = 6
"""Layers named under the strip."""


@dataclass(frozen=True)
class Share:
    """One kind of operator or one layer, and its part of the whole."""

    name: str
    css: str
    value: float
    share: float
    count: int = 1


@dataclass(frozen=True)
class Panel:
    """What the page shows of one file."""

    file: str
    unit: str
    source: str
    total: float
    strips: tuple[tuple[str, str], ...]
    """A title and an SVG each."""
    kinds: tuple[Share, ...]
    largest: tuple[Share, ...]

    @property
    def counted(self) -> bool:
        return self.source == "counted"


def panel(file: str, profile: Mapping[str, Any]) -> Panel | None:
    """None where there are no layers, whose reason stands in ``profile``."""
    layers: Sequence[Mapping[str, Any]] = profile.get("layers", ())
    total = sum(layer["value"] for layer in layers)
    if not total:
        return None
    unit = profile["unit"]
    strips = [(unit if unit != "ms" else "time, in the order of execution", strip(layers, "value", unit))]
    if any("bytes" in layer for layer in layers):
        strips.append(("bytes moved, unfused", strip(layers, "bytes", "bytes")))
    sums: dict[str, list[float]] = {}
    for layer in layers:
        sums.setdefault(layer["kind"], []).append(layer["value"])
    kinds = [Share(kind, COLOURS[kind], sum(v), sum(v) / total, len(v)) for kind, v in sums.items()]
    top = sorted(layers, key=lambda layer: -layer["value"])[:MOST]
    largest = [Share(one["name"], COLOURS[one["kind"]], one["value"], one["value"] / total) for one in top]
    ordered = sorted(kinds, key=lambda kind: -kind.value)
    return Panel(file, unit, profile["source"], total, tuple(strips), tuple(ordered), tuple(largest))


def strip(layers: Sequence[Mapping[str, Any]], key: str, unit: str) -> str:
    """Every layer as a piece as wide as its share."""
    total = sum(layer[key] for layer in layers) or 1
    room = WIDTH - THINNEST * len(layers)
    x, parts = 0.0, []
    for layer in layers:
        wide = THINNEST + room * layer[key] / total
        said = f"{layer['name']} ({layer['op']}): {amount(layer[key], unit)}, {layer[key] / total:.1%}"
        gap = 0.6 if wide > 3 else 0
        parts.append(
            f'<rect class="{COLOURS[layer["kind"]]}" x="{x:.2f}" y="0" width="{wide - gap:.2f}" height="{HEIGHT}">'
            f"<title>{escape(said)}</title></rect>"
        )
        x += wide
    return svg(WIDTH, HEIGHT, parts, f"{unit} of {len(layers)} layers")


def amount(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"
    return f"{value / 1e6:.2f} M {unit}" if value >= 1e4 else f"{value:,.0f} {unit}"
