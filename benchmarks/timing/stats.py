"""Bootstrap intervals for samples that depend on their neighbours and on the process they were taken in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 20261122


def median_interval(groups: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> Interval:
    """The 95 % block-bootstrap interval of the median of all samples; every group is one process's, in time order.

    Processes are drawn with replacement, then circular blocks of √n neighbouring samples within each, so that slow
    drifts and differences between processes widen the interval as they should.
    """
    arrays = [np.asarray(group, np.float64) for group in groups]

    def draw(random: np.random.Generator) -> float:
        chosen = random.integers(0, len(arrays), len(arrays))
        return float(np.median(np.concatenate([_blocks(arrays[i], random) for i in chosen])))

    return _interval(draw, resamples)


def ratio_interval(groups: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of `ratio`; every group holds one restart's ratios of neighbouring blocks."""
    arrays = [np.log(np.asarray(group, np.float64)) for group in groups]

    def draw(random: np.random.Generator) -> float:
        chosen = random.integers(0, len(arrays), len(arrays))
        medians = [np.median(random.choice(arrays[i], len(arrays[i]))) for i in chosen]
        return float(np.exp(np.mean(medians)))

    return _interval(draw, resamples)


def ratio(groups: Sequence[Sequence[float]]) -> float:
    """The geometric mean over restarts of the median ratio within each."""
    return float(np.exp(np.mean([np.median(np.log(group)) for group in groups])))


def _blocks(samples: Floats, random: np.random.Generator) -> Floats:
    """As many samples as there are, in circular blocks that start anywhere."""
    length = max(1, round(len(samples) ** 0.5))
    starts = random.integers(0, len(samples), -(-len(samples) // length))
    index = (starts[:, None] + np.arange(length)) % len(samples)
    drawn: Floats = samples[index.reshape(-1)[: len(samples)]]
    return drawn


def _interval(draw: Callable[[np.random.Generator], float], resamples: int) -> Interval:
    random = np.random.default_rng(SEED)
    values = [draw(random) for _ in range(resamples)]
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
