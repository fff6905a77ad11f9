"""Exact rewrites of the intermediate form: the same function of the image, in fewer or cheaper steps.

A rewrite is a function that changes a graph in place and returns how many places it changed. It is exact in real
arithmetic; in float64 it moves the logits by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from lightseg.export.rewrites.fold_affine import fold_affine
from lightseg.export.rewrites.split_mean import split_mean

Rewrite = Callable[[fx.GraphModule], int]

ALWAYS: tuple[Rewrite, ...] = (fold_affine, split_mean)
"""What every target takes."""


def rewrite(graph: fx.GraphModule, rewrites: Sequence[Rewrite]) -> dict[str, int]:
    """Apply ``rewrites`` in turn until none of them finds anything; return the changes by name."""
    changes = {r.__name__: 0 for r in rewrites}
    while True:
        found = 0
        for r in rewrites:
            count = r(graph)
            changes[r.__name__] += count
            found += count
        graph.graph.eliminate_dead_code()
        if not found:
            break
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return changes
