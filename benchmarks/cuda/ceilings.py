"""A GPU's limits: the fastest matrix product in each arithmetic, and the fastest copy within its memory."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import torch

from lightseg.benchmarks.cuda.place import Place, set_tf32

SIDE = 8192
"""Of the square matrices: large enough to keep every unit of today's largest GPUs busy."""
COPIED = 1024 * 1024 * 1024
"""Bytes of the copied array, more than caches hold."""
SECONDS = 1.0
ARITHMETIC = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16}


def ceilings(at: Place, side: int = SIDE, copied: int = COPIED, seconds: float = SECONDS) -> dict[str, Any]:
    """MACs by precision and bytes per second, each the best of many tries by the device's own clock."""
    products = {name: side**3 / _product(at, name, side, seconds) for name in ARITHMETIC}
    source = torch.ones(copied, dtype=torch.uint8, device=at.device)
    target = torch.empty_like(source)
    copy = fastest(at, lambda: target.copy_(source), seconds)
    return {
        "macs_per_second": products["fp32"],
        "bytes_per_second": 2 * copied / copy,
        "by_precision": products,
        "how": f"PyTorch on {at.details.get('device', 'this processor')}, product of {side}x{side} in "
        f"{', '.join(products)}; copy of {copied >> 20} MiB on the device, bytes read and written",
    }


def _product(at: Place, precision: str, side: int, seconds: float) -> float:
    """Seconds of one product."""
    set_tf32(precision == "tf32")
    a, b = (torch.randn(side, side, device=at.device).to(ARITHMETIC[precision]) for _ in range(2))
    product = torch.empty_like(a)
    try:
        return fastest(at, lambda: torch.matmul(a, b, out=product), seconds)
    finally:
        set_tf32(False)


def fastest(at: Place, run: Callable[[], object], seconds: float) -> float:
    """The least time of ``run`` in seconds."""
    clock, shortest = at.clock(), float("inf")
    run()
    at.wait()
    end = perf_counter_ns() + int(seconds * 1e9)
    while shortest == float("inf") or perf_counter_ns() < end:
        begin = perf_counter_ns()
        if clock is None:
            run()
        else:
            clock.begin()
            run()
            clock.end()
        shortest = min(shortest, (perf_counter_ns() - begin if clock is None else clock.ns()) / 1e9)
    return shortest
