"""Joules, where the system has a counter that this process may read: the processor's own (RAPL), or a battery's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightseg.export.runner import Runner

SYSTEM = Path("/sys/class")
UNSEEN = "not available: the counters here are the processor's, and the work is the GPU's"
IDLE_SECONDS = 1.0
"""How long the machine's power is watched before the runs."""


@dataclass(frozen=True)
class Counter:
    """``joules`` counts up; ``wraps`` is where it begins again at zero, 0 where it does not."""

    name: str
    joules: Callable[[], float]
    wraps: float = 0.0

    def spent(self, before: float, after: float) -> float:
        return after - before if after >= before or not self.wraps else after + self.wraps - before


def find_counter(system: Path = SYSTEM) -> Counter | str:
    """A counter of the whole processor, else of a discharging battery, else the reason there is none."""
    packages = sorted(system.glob("powercap/*-rapl:*/name"))
    zones = [name.parent for name in packages if _text(name).startswith("package")]
    if zones and all(_number(zone / "energy_uj") is not None for zone in zones):
        ranges = [_number(zone / "max_energy_range_uj") or 0.0 for zone in zones]
        if len(zones) == 1:
            return Counter("RAPL, processor package", lambda: _sum(zones, "energy_uj") / 1e6, ranges[0] / 1e6)
        return Counter(f"RAPL, {len(zones)} processor packages", lambda: _sum(zones, "energy_uj") / 1e6)
    battery = _battery(system)
    if battery is not None:
        return battery
    if zones:
        return "not available: the processor's energy counter may be read by the administrator only"
    return "not available: this system shows neither the processor's energy counter (RAPL) nor a discharging battery"


def _battery(system: Path) -> Counter | None:
    """What a battery has given: 3600 J are a watt-hour; a charge counts at the voltage of the moment."""
    for folder in sorted(system.glob("power_supply/*")):
        if _text(folder / "type") != "Battery" or _text(folder / "status") != "Discharging":
            continue
        volts = _number(folder / "voltage_now")
        if _number(folder / "energy_now") is not None:
            return _falling(folder.name, folder / "energy_now", 3600e-6)
        if _number(folder / "charge_now") is not None and volts is not None:
            return _falling(folder.name, folder / "charge_now", 3600e-6 * volts / 1e6)
    return None


def _falling(name: str, file: Path, joules: float) -> Counter:
    """A store that empties, in units of ``joules``."""
    return Counter(f"battery {name}", lambda: -joules * (_number(file) or 0.0))


def measure_energy(
    runner: Runner,
    inputs: list[NDArray[Any]],
    seconds: float,
    find: Callable[[], Counter | str] = find_counter,
    idle: float = IDLE_SECONDS,
) -> dict[str, Any]:
    """Joules a run of everything the counter sees, and above what it sees while this process sleeps."""
    counter = find()
    if isinstance(counter, str):
        return {"reason": counter}
    resting = _power(counter, lambda: time.sleep(idle))
    runs = 0

    def work() -> None:
        nonlocal runs
        end = time.perf_counter() + seconds
        while runs == 0 or time.perf_counter() < end:
            runner.feed(inputs[runs % len(inputs)])
            runner.run()
            runs += 1

    working = _power(counter, work)
    return {
        "reason": "",
        "counter": counter.name,
        "runs": runs,
        "seconds": working[1],
        "joules_per_run": working[0] / runs,
        "joules_per_run_above_idle": (working[0] - resting[0] / resting[1] * working[1]) / runs,
        "idle_watts": resting[0] / resting[1],
    }


def _power(counter: Counter, work: Callable[[], None]) -> tuple[float, float]:
    """Joules and seconds of ``work``."""
    before, begin = counter.joules(), time.perf_counter()
    work()
    return counter.spent(before, counter.joules()), time.perf_counter() - begin


def _sum(folders: list[Path], name: str) -> float:
    return sum(_number(folder / name) or 0.0 for folder in folders)


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
