from __future__ import annotations

import numpy as np
import pytest

from lightseg.benchmarks.timing.latency import FULL, QUICK, Latency, Protocol, is_settled, quantile


@pytest.mark.parametrize(("share", "needed"), [(0.5, 6), (0.1, 36), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_a_percentile_needs_samples(share: float, needed: int) -> None:
    assert Latency("run", tuple(range(needed - 1))).percentile(share) is None
    assert Latency("run", tuple(range(needed))).percentile(share) is not None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("count", [1, 2, 9, 400])
def test_quantile_is_numpys(count: int, share: float) -> None:
    values = sorted(np.random.default_rng(count).integers(0, 10**9, count).tolist())
    assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_views_of_the_samples() -> None:
    slow = [5] * 20
    latency = Latency("run", (1, 2, 3, 4, 5) * 36 + tuple(s * 100 for s in slow))
    assert (latency.count, latency.min, latency.median) == (200, 1, 3)
    assert latency.mad == 1
    assert latency.p90 is not None
    assert latency.spread == pytest.approx(latency.p90 / 3 - 1)
    summary = latency.summary()
    assert summary["boundary"] == "run"
    assert summary["p50_ms"] == pytest.approx(3e-6)
    assert summary["p99_ms"] is None


def test_few_samples_have_a_median_but_no_percentile() -> None:
    latency = Latency("load", (7, 5, 6))
    assert (latency.median, latency.p50, latency.spread) == (6, None, None)


@pytest.mark.parametrize(
    ("medians", "settled"),
    [
        ([], False),
        ([10.0, 10.0], False),
        ([30.0, 10.0, 10.1, 10.2], True),
        ([10.0, 10.1, 10.5], False),
        ([10.0, 10.0, 10.0, 12.0], False),
    ],
)
def test_settled_looks_at_the_last_three_windows(medians: list[float], settled: bool) -> None:
    assert is_settled(medians, within=0.03) is settled


@pytest.mark.parametrize("protocol", [QUICK, FULL])
def test_the_shipped_protocols_support_what_is_printed(protocol: Protocol) -> None:
    assert protocol.samples >= 200
    assert protocol.seconds > 0
    assert Protocol(**protocol.to_dict()) == protocol
