"""A bisection as people read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightseg.export.bisection import Bisection
from lightseg.export.trace import Layer

if TYPE_CHECKING:
    from rich.table import Table


def table(found: Bisection) -> Table:
    """One row per value of the file, in the order of execution."""
    from rich.table import Table

    title = f"{found.file}, probe {found.probe}: errors as shares of each value's largest element, and what is allowed"
    rows = Table("value", "operation", "cumulative", "allowed", "isolated", "allowed", "", title=title)
    for layer in found.layers:
        rows.add_row(layer.node, layer.operation, *_figures(layer), _mark(layer, found.culprit))
    return rows


def _figures(layer: Layer) -> tuple[str, str, str, str]:
    if layer.cumulative is None or layer.isolated is None:
        return ("—",) * 4
    numbers = (layer.cumulative, layer.cumulative_allowed, layer.isolated, layer.isolated_allowed)
    a, b, c, d = (f"{number:.1e}" for number in numbers)
    return a, b, c, d


def _mark(layer: Layer, culprit: Layer | None) -> str:
    if layer == culprit:
        return "FIRST WRONG"
    if layer.cumulative is None:
        return "not in the file by this name"
    words = [word for word, fine in (("off", layer.passes), ("wrong alone", layer.passes_alone)) if not fine]
    return ", ".join(words)


def summary(found: Bisection, reproduction: Path | None) -> str:
    """The verdict, where it comes from, what was run, and where to go on."""
    lines = [f"{found.file}: {found.said}", f"  run by: {found.runs}"]
    if found.culprit:
        lines += _origin(found.culprit)
    if found.second_opinion:
        kernels, error = found.second_opinion
        lines.append(f"  alone, {kernels}: error {error:.1e}")
    if reproduction:
        lines.append(f"  reproduction: python {reproduction}/reproduce.py")
    return "\n".join(lines)


def _origin(culprit: Layer) -> list[str]:
    return [
        f"  module: {culprit.module or 'none of the network: preprocessing or head'}",
        f"  source: {culprit.source or 'no line of the network'}",
        f"  computed in the file from: {', '.join(culprit.reads)}",
        f"  error {culprit.cumulative:.1e} (allowed {culprit.cumulative_allowed:.1e}), "
        f"alone {culprit.isolated:.1e} (allowed {culprit.isolated_allowed:.1e})",
    ]
