"""adb to an Android phone, by the user's own ``adb`` command."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightseg.benchmarks.remote.link import Unreachable, attempt, check, last_line, run
from lightseg.errors import BadInput

ADDRESS = re.compile(r"adb:([\w.:\-\[\]]*)")
READY = "device"
"""What ``adb get-state`` answers for a phone that takes commands."""
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's names of its throttling states, by number."""
UNKNOWN = "not readable"


@dataclass(frozen=True)
class Adb:
    name: str
    serial: str
    """Empty for the only one connected."""
    program: str = "adb"
    temporary: str = "/data/local/tmp"

    def call(self, *arguments: str) -> list[str]:
        return [self.program, *(["-s", self.serial] if self.serial else []), *arguments]

    def command(self, script: str) -> list[str]:
        return self.call("shell", script)

    def broken(self, code: int, said: str) -> str | None:
        """adb gives its own failures the status of any command: where its words do not tell, the phone is asked."""
        line = explain(self.name, said)
        if line is not None:
            return line
        state, out, why = attempt(self.call("get-state"), seconds=30.0)
        if state == 0 and out.strip() == READY:
            return None
        return (
            explain(self.name, why or out)
            or f"{self.name} was lost ({last_line(said) or last_line(why)}); plug it in again"
        )

    def require(self) -> None:
        """Errors: `Unreachable`, with what to do on the phone."""
        code, out, said = attempt(self.call("get-state"), seconds=30.0)
        if code or out.strip() != READY:
            found = explain(self.name, said or out)
            raise Unreachable(found or f"{self.name} is in the state {out.strip() or UNKNOWN}; see adb devices")

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        with tempfile.TemporaryDirectory(prefix="lightseg-adb-") as scratch:
            for name, data in files.items():
                here = Path(scratch) / "file"
                here.write_bytes(data)
                parent = f"{folder}/{name}".rpartition("/")[0]
                if parent != folder:
                    run(self, f"mkdir -p {shlex.quote(parent)}")
                code, out, said = attempt(self.call("push", str(here), f"{folder}/{name}"), seconds=600.0)
                check(self, code, said or out)

    def get(self, path: str) -> bytes:
        """Errors: `Failed`, `Unreachable`."""
        with tempfile.TemporaryDirectory(prefix="lightseg-adb-") as scratch:
            here = Path(scratch) / "file"
            code, out, said = attempt(self.call("pull", path, str(here)))
            check(self, code, said or out)
            return here.read_bytes()


def parse(text: str) -> Adb:
    """From ``adb:SERIAL``. Errors: `BadInput`."""
    found = ADDRESS.fullmatch(text)
    if found is None:
        raise BadInput(f"--device {text} is not adb:SERIAL; type adb devices to see the serials")
    return Adb(text, found[1])


def explain(name: str, said: str) -> str | None:
    """What adb's own words mean; None where there are none of them."""
    for pattern, line in MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{name} {line}"
    return None


MEANINGS = (
    ("device unauthorized|still authorizing", "is not authorised; unlock it and accept the question about debugging"),
    ("device offline", "is offline; unplug it, plug it in again, and see that it is unlocked"),
    ("more than one device", "could be any of several devices; name one with adb:SERIAL (adb devices lists them)"),
    ("no devices/emulators found|device '.*' not found|device not found",
     "is not connected; plug it in, switch on USB debugging, and see that adb devices lists it"),
    ("no permissions|insufficient permissions", "may not be used by this account; see adb devices (udev rules)"),
    ("cannot connect to daemon|failed to start daemon",
     "cannot be reached: adb's server does not start; try adb start-server"),
    ("error: closed|connection reset|protocol fault|device disconnected", "was lost; plug it in again"),
)  # fmt: skip
"""What adb says, and what it means; the first that fits."""

ASK = """
for p in ro.product.manufacturer ro.product.model ro.soc.model ro.hardware ro.build.version.release ro.product.cpu.abi
do echo "$p=$(getprop $p 2>/dev/null)"; done
echo "uname=$(uname -a 2>/dev/null)"
echo "load=$(cat /proc/loadavg 2>/dev/null)"
echo "cores=$(ls -d /sys/devices/system/cpu/cpu[0-9]* 2>/dev/null | wc -l)"
echo "features=$(grep -m1 Features /proc/cpuinfo 2>/dev/null)"
echo "memory=$(grep MemTotal /proc/meminfo 2>/dev/null)"
for c in /sys/devices/system/cpu/cpu[0-9]*
do f=$c/cpufreq; echo "speed=${c##*cpu} $(cat $f/cpuinfo_max_freq 2>/dev/null) $(cat $f/scaling_governor 2>/dev/null)"
done
dumpsys thermalservice 2>/dev/null | grep -m1 'Thermal Status' | sed 's/^ */thermal=/'
dumpsys battery 2>/dev/null | sed 's/^ */battery=/'
"""


def phone(link: Adb) -> dict[str, Any]:
    """What the phone says of itself; anything it does not tell is `UNKNOWN`. Errors: `Unreachable`."""
    lines = [line.partition("=") for line in run(link, ASK + "true").splitlines()]
    said = {name: value.strip() for name, _, value in lines if name not in ("speed", "battery")}
    speeds = [value.split() for name, _, value in lines if name == "speed"]
    battery = dict(part.split(": ", 1) for name, _, part in lines if name == "battery" and ": " in part)
    maker, model = said.get("ro.product.manufacturer", ""), said.get("ro.product.model", "")
    kib = re.search(r"\d+", said.get("memory", ""))
    return {
        "cpu": said.get("ro.soc.model") or said.get("ro.hardware") or UNKNOWN,
        "phone": f"{maker} {model}".strip() or UNKNOWN,
        "android": said.get("ro.build.version.release") or UNKNOWN,
        "abi": said.get("ro.product.cpu.abi") or UNKNOWN,
        "flags": said.get("features", "").partition(":")[2].split(),
        "logical_cores": int(said.get("cores") or 0),
        "governor": ", ".join(sorted({core[2] for core in speeds if len(core) > 2})) or UNKNOWN,
        "core_speeds": {core[0]: int(core[1]) for core in speeds if len(core) > 1 and core[1].isdigit()},
        "virtual_machine": "emulator" in link.serial,
        "memory_bytes": int(kib[0]) * 1024 if kib else UNKNOWN,
        "load_average": [float(v) for v in said.get("load", "").split()[:3]] or UNKNOWN,
        "system": said.get("uname") or UNKNOWN,
        "thermal": thermal_name(said.get("thermal", "")),
        "battery": {
            k: battery[k] for k in ("level", "temperature", "status", "USB powered", "AC powered") if k in battery
        },
    }


def thermal(link: Adb) -> str:
    """Android's throttling state now."""
    return thermal_name(run(link, "dumpsys thermalservice 2>/dev/null | grep -m1 'Thermal Status'; true"))


def thermal_name(line: str) -> str:
    number = re.search(r"Thermal Status: *(\d+)", line)
    return THERMAL[int(number[1])] if number and int(number[1]) < len(THERMAL) else UNKNOWN
