"""Random small graphs of the intermediate form, made of the motifs networks are made of.

A graph is a list of motif names and a seed, so that hypothesis shrinks a failure to the few motifs that matter. The
input is 1×3×`SIZE`, and every size valid for the graph is a multiple of `MULTIPLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, fx

from lightseg.export.graph import ops
from tests.export.graph_builder import MULTIPLE, SIZE, Builder, Sketch
from tests.export.motifs import MOTIFS

__all__ = ["MOTIFS", "MULTIPLE", "SIZE", "STEADY", "Builder", "graphs", "largest", "sketch"]


def sketch(motifs: Sequence[str], seed: int) -> fx.GraphModule:
    """The graph of ``motifs``; all maps of the last one's size that nobody reads are concatenated at the end.

    Some motifs do nothing where no map fits; an image alone is no graph.
    """
    s = Sketch(seed)
    for name in motifs:
        MOTIFS[name](s)
    if len(s.values) == 1:
        MOTIFS["pointwise"](s)
    last = s.values[-1]
    unread = [v for v in s.values[:-1] if v.stride == last.stride and not v.node.users]
    return s.finish(s.put(ops.Concat(), *unread, last).node if unread else last.node)


STEADY = settings(deadline=None, derandomize=True)
"""The same examples in every run; remove ``derandomize`` to search for new ones."""


def graphs(most: int = 9) -> st.SearchStrategy[tuple[list[str], int]]:
    """Arguments of `sketch`; printing them is enough to repeat a failure."""
    return st.tuples(st.lists(st.sampled_from(list(MOTIFS)), min_size=2, max_size=most), st.integers(0, 2**16))


def largest(graph: fx.GraphModule, x: Tensor) -> float:
    """The largest absolute value on the way from ``x`` to the result: what rounding is relative to."""
    return max(float(v.abs().max()) for v in _Recorder(graph).all_values(x))


class _Recorder(fx.Interpreter):
    def all_values(self, x: Tensor) -> list[Tensor]:
        self.seen = [x]
        self.run(x)
        return self.seen

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen += [value] if isinstance(value, Tensor) else []
        return value
