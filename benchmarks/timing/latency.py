"""How something is timed, and the raw samples with their statistics as views. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

Boundary = Literal["import_and_load", "load", "first", "run", "run_cpu", "device", "transfer", "image_to_mask"]
"""What a clock enclosed; numbers of different boundaries are never compared or mixed.

import_and_load  the runtime's Python package is imported and the model made ready, in a process that has neither
load             the model is made ready again, the package being there
first            the first inference after that
run              one inference: the runtime's call alone, input and output copies outside
run_cpu          the processor time of that call, all threads together: what it costs, where others compete for the core
device           the accelerator's own clock around the same call
transfer         one input copied to a device with a memory of its own and one output back, nothing run in between
image_to_mask    a uint8 photograph in, the mask at the photograph's own size out: resized, normalised, run, the logits
                 enlarged, the largest taken
"""


@dataclass(frozen=True)
class Protocol:
    """How a row is measured. Sampling ends when ``samples`` and ``seconds`` are both reached, in every process."""

    samples: int = 500
    seconds: float = 5.0
    limit_seconds: float | None = None
    """A process samples about this long at most, with fewer samples: slow networks then lack some percentiles."""
    processes: int = 3
    """Fresh processes per row; a row's samples are those of all of them."""
    restarts: int = 5
    """How often both sides of a comparison are started anew."""
    window_samples: int = 5
    window_seconds: float = 0.1
    """A warm-up window ends when it holds this many runs and lasted this long."""
    settled: float = 0.03
    """Warm-up ends when the last three window medians lie within this share of their middle one …"""
    warmup_seconds: float = 10.0
    """… or, unsettled, after this time."""
    inputs: int = 32
    """Different images in rotation (fewer where they would not fit in `INPUT_BYTES`)."""
    audits: int = 12
    """About how many timed iterations have their output compared with the reference output of their input."""
    audit_tolerance: float = 1e-5
    """Largest max|Δ|/max|y| of an audited output. The same program on the same input should not differ at all."""
    noisy: float = 0.10
    """A row is NOISY when p90 or p10 lies further from the median than this, or its processes' medians apart."""

    def affordable(self, warm_up: Mapping[str, Any]) -> int:
        """How many runs a process samples, given how long they took while it warmed up."""
        if self.limit_seconds is None:
            return self.samples
        return max(1, min(self.samples, int(self.limit_seconds * 1e9 / warm_up["window_medians_ns"][-1])))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


QUICK = Protocol(samples=200, seconds=2.0, processes=1, restarts=3, warmup_seconds=5.0)
FULL = Protocol()


@dataclass(frozen=True)
class Latency:
    """Raw samples of one boundary, nothing removed, in the order they were taken."""

    boundary: Boundary
    samples_ns: tuple[int, ...]

    def percentile(self, share: float) -> float | None:
        """The percentile in nanoseconds by linear interpolation; None when the samples do not support it.

        They do when the sample farthest out lies beyond the true percentile with 97.5 % probability, that is, when a
        distribution-free 95 % interval for it exists: 6 samples for the median, 36 for p10 and p90, 72 for p95, 368 for
        p99.
        """
        if max(share, 1 - share) ** len(self.samples_ns) > 0.025:
            return None
        return quantile(sorted(self.samples_ns), share)

    @property
    def count(self) -> int:
        return len(self.samples_ns)

    @property
    def min(self) -> int:
        return min(self.samples_ns)

    @property
    def median(self) -> float:
        """In nanoseconds, of however few samples; `p50` refuses fewer than six."""
        return float(median(self.samples_ns))

    @property
    def p10(self) -> float | None:
        return self.percentile(0.10)

    @property
    def p50(self) -> float | None:
        return self.percentile(0.50)

    @property
    def p90(self) -> float | None:
        return self.percentile(0.90)

    @property
    def p95(self) -> float | None:
        return self.percentile(0.95)

    @property
    def p99(self) -> float | None:
        return self.percentile(0.99)

    @property
    def mad(self) -> float:
        """Median absolute deviation from the median, in nanoseconds, not scaled."""
        middle = self.median
        return float(median(abs(s - middle) for s in self.samples_ns))

    @property
    def spread(self) -> float | None:
        """(p90 − p50) / p50: how far the slow tenth is from the middle."""
        return None if self.p90 is None else self.p90 / self.median - 1

    @property
    def dip(self) -> float | None:
        """(p50 − p10) / p50: how far the fast tenth is from the middle; far where a run has two speeds."""
        return None if self.p10 is None else 1 - self.p10 / self.median

    def summary(self) -> dict[str, float | int | str | None]:
        """The statistics, times in milliseconds."""
        times = {
            "median": self.median,
            "p50": self.p50,
            "p90": self.p90,
            "p95": self.p95,
            "p99": self.p99,
            "min": self.min,
            "mad": self.mad,
        }
        milliseconds = {f"{name}_ms": None if ns is None else ns / 1e6 for name, ns in times.items()}
        return {"boundary": self.boundary, "count": self.count, **milliseconds, "spread": self.spread}


def quantile(ordered: Sequence[int], share: float) -> float:
    """Linear interpolation between the two nearest order statistics."""
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def is_settled(medians: Sequence[float], within: float) -> bool:
    """Whether the last three window medians lie within a share ``within`` of their middle one."""
    last = medians[-3:]
    return len(last) == 3 and max(last) - min(last) <= within * median(last)
