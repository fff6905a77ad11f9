"""The eight-bit operations: what they return lies on the grid that the file stores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightseg.export.graph import ops
from lightseg.export.graph.quantised import FakeQuantise, QuantisedConv
from lightseg.export.quantization.ranges import Seen, grid
from lightseg.export.quantization.scheme import Scheme

SCALES = st.floats(2.0**-20, 2.0**20)
NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
SCHEMES = [Scheme(), Scheme(outputs=True), Scheme(symmetric=True), Scheme(symmetric=True, lowest=-127)]


@settings(max_examples=200, deadline=None)
@given(SCALES, st.integers(-128, 127), NUMBERS)
def test_results_are_whole_steps_inside_the_range(scale: float, zero: int, numbers: list[float]) -> None:
    op = FakeQuantise(scale, zero)
    x = torch.tensor(numbers, dtype=torch.float64)
    y, q = op(x), op.integers(x)
    assert torch.equal(q, q.round()) and q.min() >= -128 and q.max() <= 127
    assert torch.equal(y, (q - zero) * op.scale)
    assert torch.equal(op(y), y)
    inside = (q > -128) & (q < 127)
    assert ((y - x).abs()[inside] <= op.scale * (0.5 + 1e-9)).all()
    assert op(torch.zeros(1, dtype=torch.float64)) == 0


def test_ties_go_to_the_even_step_as_in_every_runtime() -> None:
    op = FakeQuantise(1.0, 0)
    assert op(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])).tolist() == [0, 2, 2, 0, -2]


def test_scales_are_what_a_file_can_store() -> None:
    for scale in (0.1, 1 / 3, 1e-30):
        stored = FakeQuantise(scale, 0).scale
        assert stored == stored.float().double() and stored > 0


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=50))
def test_a_range_holds_zero_and_a_legal_zero_point(scheme: Scheme, numbers: list[float]) -> None:
    seen = Seen()
    seen.add(torch.tensor(numbers).view(1, 1, 1, -1))
    found = grid(seen, scheme)
    assert scheme.lowest <= found.zero_point <= scheme.highest and found.scale > 0
    assert not scheme.symmetric or found.zero_point == 0
    assert (found.low, found.high) == (scheme.lowest, scheme.highest)
    widest = max(0.0, *numbers) - min(0.0, *numbers)
    assert float(found.scale) <= 2 * widest / 254 * 1.0001 or widest < 1e-9


def test_the_range_is_cut_where_that_loses_less() -> None:
    """One outlier among many: the grid serves the many."""
    random, seen = torch.Generator().manual_seed(0), Seen()
    for _ in range(400):
        seen.add(torch.rand((1, 1, 32, 32), generator=random))
    seen.add(torch.full((1, 1, 1, 1), 10.0))
    assert grid(seen, Scheme()).scale * 255 < 10 * 0.95


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-30, 4), st.booleans())
def test_weights_and_biases_are_integers_of_their_scales(seed: int, exponent: float, biased: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn((4, 3, 3, 3), generator=random, dtype=torch.float64) * 10**exponent
    weight[0] = 0
    bias = torch.randn(4, generator=random, dtype=torch.float64) if biased else None
    plain = ops.Conv(weight, bias, padding=(1, 1))
    conv = QuantisedConv(plain, FakeQuantise(0.01, 3).scale)
    assert conv.integer_weight().abs().max() <= 127
    restored = conv.integer_weight().double() * conv.weight_scale[:, None, None, None]
    assert torch.equal(restored, conv.weight)
    assert ((conv.weight - weight).abs() <= 0.5001 * conv.weight_scale[:, None, None, None]).all()
    assert torch.isfinite(conv.weight).all() and conv.integer_bias().abs().max() <= 2**30 * 1.0001
    if bias is not None:
        assert ((conv.bias - bias).abs() <= 0.5001 * conv.bias_scale).all()  # type: ignore[operator]
