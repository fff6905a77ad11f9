"""The GPU's own facts, as the driver's ``nvidia-smi`` tells them. Standard library only."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import Any

NOT_AVAILABLE = "not available"
FIXED = {
    "name": "name",
    "driver": "driver_version",
    "memory_mib": "memory.total",
    "power_limit_watts": "power.limit",
    "max_clock_mhz": "clocks.max.sm",
    "max_memory_clock_mhz": "clocks.max.mem",
    "persistence": "persistence_mode",
}
"""By our name, what does not change while something is measured."""
MOMENT = {
    "clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
    "state": "pstate",
}
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""Why the clock is what it is: today's name, and that of drivers before 535."""
BITS = {
    0x1: "idle",
    0x2: "clocks set by an application",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
    0x100: "display clock",
}
HARMLESS = ("idle", "clocks set by an application", "sync boost", "display clock")
"""Reasons that do not make one row slower than the next."""
TIMEOUT_SECONDS = 10.0
Ask = Callable[[Sequence[str]], "list[str] | None"]


def ask(fields: Sequence[str], program: str = "nvidia-smi", gpu: str = "0") -> list[str] | None:
    """The values of ``fields`` of one GPU, by number or UUID; None where the driver's program cannot tell them."""
    command = [program, f"--id={gpu}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in done.stdout.strip().splitlines()[:1] for value in value.split(",")]
    return values if done.returncode == 0 and len(values) == len(fields) else None


def gpu_facts(asked: Ask = ask) -> dict[str, Any]:
    """``gpu``, which rows of one result must share, and ``gpu_state`` at the start."""
    return {"gpu": _told(FIXED, asked), "gpu_state": gpu_state(asked)}


def gpu_state(asked: Ask = ask) -> dict[str, Any]:
    """Clocks, heat and power now, and ``throttling``: every reason the driver gives for a lowered clock."""
    for name in REASONS:
        if (told := asked([name])) is not None:
            return {**_told(MOMENT, asked), "throttling": reasons(told[0])}
    return {**_told(MOMENT, asked), "throttling": NOT_AVAILABLE}


def reasons(bits: str) -> list[str] | str:
    """The words of a bit mask as hexadecimal text; a word that it cannot be read for anything else."""
    try:
        mask = int(bits, 16)
    except ValueError:
        return NOT_AVAILABLE
    return [word for bit, word in BITS.items() if mask & bit]


def slowed(states: Sequence[dict[str, Any]]) -> list[str]:
    """Reasons in ``states`` that make a time worthless, each once."""
    told = [one["throttling"] for one in states if isinstance(one.get("throttling"), list)]
    return list(dict.fromkeys(word for words in told for word in words if word not in HARMLESS))


def _told(fields: dict[str, str], asked: Ask) -> dict[str, Any]:
    values = asked(list(fields.values())) or [NOT_AVAILABLE] * len(fields)
    return {name: _number(value) for name, value in zip(fields, values, strict=True)}


def _number(value: str) -> float | str:
    """A number where it is one; drivers write ``[N/A]`` and ``[Not Supported]`` for what they cannot read."""
    if value.startswith("[") or not value:
        return NOT_AVAILABLE
    try:
        return float(value)
    except ValueError:
        return value
