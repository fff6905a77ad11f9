"""The limits of one thread of this machine, or of its GPU: the fastest matrix product and the fastest copy seen.

``python -m lightseg.benchmarks.ceilings`` is the process that measures them, pinned like every other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import Any

from lightseg.benchmarks.timing.child import Handler, claim_stdout, pin, serve
from lightseg.benchmarks.timing.process import Child

COMMAND = (sys.executable, "-m", "lightseg.benchmarks.ceilings")
SIDE = 768
"""Of the square float32 matrices: large enough to be limited by arithmetic, small enough to be quick."""
COPIED = 64 * 1024 * 1024
"""Bytes of the copied array, more than caches hold."""
SECONDS = 1.5
SIZES = (1 << 17, 1 << 19, 1 << 21, 1 << 23)
"""Bytes of smaller arrays, which one of the caches holds: what a layer reads may lie there already."""


def measure_ceilings(cores: list[int], child: Callable[..., Child] = Child, device: str = "cpu") -> dict[str, Any]:
    """MACs and bytes per second, each the best of many tries: by processor time, or a GPU's own. Errors: `Failed`."""
    with child(1, COMMAND) as process:
        return process.ask("ceilings", cores=cores[:1], device=device)


class Ceilings:
    """The measuring process's one answer."""

    @property
    def requests(self) -> dict[str, Handler]:
        return {"ceilings": self.ceilings}

    def ceilings(self, request: dict[str, Any]) -> dict[str, Any]:
        pin(request["cores"])
        if request.get("device") == "cuda":
            from lightseg.benchmarks.cuda.ceilings import ceilings
            from lightseg.benchmarks.cuda.place import place

            return ceilings(place("cuda"))
        import numpy as np

        random = np.random.default_rng(0)
        a, b = (random.random((SIDE, SIDE), np.float32) for _ in range(2))
        product, source = np.empty_like(a), np.ones(COPIED, np.uint8)
        target = np.empty_like(source)
        multiply = best(lambda: np.matmul(a, b, out=product), SECONDS)
        copy = best(lambda: np.copyto(target, source), SECONDS)
        return {
            "macs_per_second": SIDE**3 / multiply,
            "bytes_per_second": 2 * COPIED / copy,
            "bytes_per_second_of": [*map(copied, SIZES), [2 * COPIED, 2 * COPIED / copy]],
            "how": f"numpy, float32 product of {SIDE}x{SIDE}; copy of {COPIED >> 20} MiB, bytes read and written",
        }


def copied(size: int) -> list[float]:
    """Bytes moved by a copy of ``size`` bytes, again and again the same, and how many so in a second."""
    import numpy as np

    source = np.ones(size, np.uint8)
    target, times = np.empty_like(source), max(1, (1 << 22) // size)

    def several() -> None:
        for _ in range(times):
            np.copyto(target, source)

    return [2.0 * size, 2 * size * times / best(several, SECONDS / 5)]


def best(run: Callable[[], object], seconds: float) -> float:
    """The least processor time of ``run`` in seconds: what other processes take is not the machine's limit."""
    run()
    shortest, end = float("inf"), perf_counter_ns() + int(seconds * 1e9)
    while shortest == float("inf") or perf_counter_ns() < end:
        begin = process_time_ns()
        run()
        shortest = min(shortest, (process_time_ns() - begin) / 1e9)
    return shortest


if __name__ == "__main__":
    serve(sys.stdin, claim_stdout(), Ceilings())
