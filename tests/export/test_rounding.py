"""Eleven bits are float16's, without its range."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.rounding import RoundedGraph, to_eleven_bits
from tests.export.subjects import reference

NORMAL = st.floats(float(np.finfo(np.float16).tiny), 65504, width=32).flatmap(lambda v: st.sampled_from([v, -v]))


@settings(max_examples=200, deadline=None)
@given(values=hnp.arrays(np.float32, st.integers(1, 30), elements=NORMAL))
def test_is_float16_where_float16_has_numbers(values: NDArray[np.float32]) -> None:
    x = torch.from_numpy(values)
    assert torch.equal(to_eleven_bits(x), x.half().float())


@settings(max_examples=100, deadline=None)
@given(values=hnp.arrays(np.float32, 8, elements=NORMAL), power=st.integers(-90, 90))
def test_powers_of_two_pass_through(values: NDArray[np.float32], power: int) -> None:
    """Unlike float16, whose numbers end at both sides."""
    x = torch.from_numpy(values)
    scale = 2.0**power
    assert torch.equal(to_eleven_bits(x * scale), to_eleven_bits(x) * scale)


def test_zero_and_signs_stay() -> None:
    x = torch.tensor([0.0, -0.0, 1.0, -2.0])
    assert to_eleven_bits(x).numpy().tobytes() == x.numpy().tobytes()


def test_parameters_input_and_results_are_rounded() -> None:
    root, graph = nn.Module(), fx.Graph()
    root.add_module("affine", ops.Affine(torch.tensor([1 + 2.0**-12]), torch.tensor([2.0**-12])).double())
    graph.output(graph.call_module("affine", (graph.placeholder("image"),)))
    module = fx.GraphModule(root, graph)
    got = RoundedGraph(module).logits(torch.tensor([[[[1 + 2.0**-13]]]]))
    assert float(got) == 1.0
    assert float(module.get_submodule("affine").get_buffer("scale")) == 1 + 2.0**-12  # the graph itself stays as it was


def test_a_reference_measures_both_precisions() -> None:
    one = reference("sinet")
    single, half = one.distances("fp32"), one.distances("fp16")
    assert set(single) == set(half) == set(one.probes)
    assert all(1e-8 < single[p].largest < 1e-4 < half[p].largest < 0.1 for p in one.probes)
    assert all(half[p].mean < half[p].largest for p in one.probes)
