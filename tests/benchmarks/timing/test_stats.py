from __future__ import annotations

import numpy as np
import pytest

from lightseg.benchmarks.timing.stats import median_interval, ratio, ratio_interval


def test_the_median_interval_covers_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        low, high = median_interval([random.exponential(size=200).tolist()], resamples=300)
        hits += low <= np.log(2) <= high
    assert 50 <= hits <= 60


def test_processes_that_differ_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    same = [random.normal(100, 1, 100).tolist() for _ in range(3)]
    apart = [(np.array(group) + shift).tolist() for group, shift in zip(same, (0, 10, 20), strict=True)]
    narrow, wide = (np.diff(median_interval(groups, 300))[0] for groups in (same, apart))
    assert wide > 10 * narrow


def test_drift_widens_the_interval() -> None:
    """Blocks keep neighbours together: the same numbers in another order are less certain."""
    shuffled = np.random.default_rng(3).permutation(400).astype(float)
    drifting = np.sort(shuffled)
    narrow, wide = (np.diff(median_interval([x.tolist()], 300))[0] for x in (shuffled, drifting))
    assert wide > 2 * narrow


def test_ratio_is_symmetric() -> None:
    groups = [[1.1, 1.2, 1.3], [1.0, 1.25, 1.5]]
    inverse = [[1 / r for r in group] for group in groups]
    assert ratio(groups) == pytest.approx(1 / ratio(inverse))
    low, high = ratio_interval(groups, 500)
    assert low <= ratio(groups) <= high


@pytest.mark.parametrize("true", [0.8, 1.0, 1.3])
def test_ratio_interval_finds_the_ratio(true: float) -> None:
    random = np.random.default_rng(4)
    groups = [(true * random.lognormal(0, 0.03, 10)).tolist() for _ in range(5)]
    low, high = ratio_interval(groups, 500)
    assert low - 0.01 <= true <= high + 0.01
    assert high - low < 0.1
