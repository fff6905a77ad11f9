"""The machine and the software a number was measured on. What cannot be read says so. Standard library only."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

UNREADABLE = "not readable"
PACKAGES = (
    "torch", "numpy", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "onnx", "tensorrt", "tensorrt_rtx", "triton",
    "openvino", "ncnn", "pillow",
)  # fmt: skip
SYSTEM = Path("/sys")
FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
    "sme",
)  # fmt: skip
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)  # fmt: skip


def environment(cores: Iterable[int]) -> dict[str, Any]:
    """Facts that do not change during a run, and the load when it began."""
    return {
        "cpu": cpu_model(),
        "flags": cpu_flags(),
        "logical_cores": os.cpu_count(),
        "affinity": sorted(cores),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual_machine": "hypervisor" in _cpuinfo("flags").split(),
        "core_speeds": core_speeds(),
        "temperature": temperature(),
        "throttling": throttling(),
        "memory_bytes": _memory(),
        "load_average": load_average(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {**versions(), "lightseg": _lightseg()},
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """The instruction-set extensions that inference kernels choose by."""
    present = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [flag for flag in FLAGS if flag in present]


def load_average() -> list[float] | str:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return UNREADABLE


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The checkout's commit, with "+" when files differ from it; an installed package has none."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return "none: not a checkout"
    command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return UNREADABLE
    return done.stdout.strip() or UNREADABLE


def available_cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def quiet_cores(count: int, watch_seconds: float = 0.25) -> list[int]:
    """The ``count`` allowed cores that idled most while we watched; the last ones where that cannot be read.

    Where cores differ in speed, as in phones and small boards, only the fastest kind counts if it has enough of them.
    """
    allowed = fastest(available_cores(), core_speeds(), count)
    before = core_times()
    if len(allowed) <= count or not before:
        return allowed[-count:]
    time.sleep(watch_seconds)
    after = core_times()
    idle = {core: after[core][0] - before[core][0] for core in allowed if core in after and core in before}
    return sorted(sorted(idle, key=lambda core: (idle[core], core), reverse=True)[:count]) or allowed[-count:]


def fastest(cores: list[int], speeds: dict[str, int], count: int) -> list[int]:
    """The cores of the highest speed, and of the next ones too where they are fewer than ``count``."""
    chosen: list[int] = []
    for speed in sorted({speeds.get(str(core), 0) for core in cores}, reverse=True):
        if len(chosen) < count:
            chosen += [core for core in cores if speeds.get(str(core), 0) == speed]
    return sorted(chosen)


def core_speeds() -> dict[str, int]:
    """Each core's capacity as the scheduler sees it, else its highest clock in kHz; empty where neither is told."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        files = [(core, SYSTEM / f"devices/system/cpu/cpu{core}" / name) for core in available_cores()]
        found = {str(core): int(text) for core, file in files if (text := _text(str(file)).strip()).isdigit()}
        if len(found) == len(files):
            return found
    return {}


def temperature() -> float | None:
    """Of the hottest sensor, in degrees Celsius; None where there is none."""
    readings = (_text(str(file)).strip() for file in sorted(SYSTEM.glob("class/thermal/thermal_zone*/temp")))
    degrees = [int(text) / 1000 for text in readings if text.lstrip("-").isdigit()]
    return max((d for d in degrees if -50 < d < 200), default=None)


def throttling() -> str:
    """What a Raspberry Pi's firmware says of low voltage and heat; a word that it cannot be read elsewhere."""
    return _text(str(SYSTEM / "devices/platform/soc/soc:firmware/get_throttled")).strip() or UNREADABLE


def core_times() -> dict[int, tuple[int, int]]:
    """Idle and stolen jiffies of every core since boot; empty where the system does not tell."""
    times = {}
    for line in _text("/proc/stat").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and len(fields) >= 8:
            times[int(name[3:])] = (int(fields[3]), int(fields[7]))
    return times


def thread_environment(threads: int) -> dict[str, str]:
    """This process's environment with every thread-count variable set."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONHASHSEED": "0"}


def _lightseg() -> str:
    from lightseg import __version__

    return __version__


def _cpuinfo(field: str) -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _memory() -> int | str:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return UNREADABLE


def _first_line(path: str) -> str:
    return _text(path).strip() or UNREADABLE


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
