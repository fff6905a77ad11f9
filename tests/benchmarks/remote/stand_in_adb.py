"""A phone that is none: what the program adb does, on a folder of this machine. Run as a program.

``$STAND_IN`` is a folder with ``state`` (what is wrong with the phone; "device" for nothing), ``phone/`` (its storage,
in place of /data/local/tmp) and ``bin/`` (its programs). ``shells`` counts commands, so that it can be lost at one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["STAND_IN"])
STORAGE = "/data/local/tmp"
SAYS = {
    "absent": "adb: device 'R58' not found",
    "none": "adb: no devices/emulators found",
    "unauthorized": "adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\nOtherwise check for a "
    "confirmation dialog on your device.",
    "offline": "adb: device offline",
    "several": "adb: more than one device/emulator",
    "daemon": "* daemon not running; starting now at tcp:5037\nerror: cannot connect to daemon",
}


def main(argv: list[str]) -> int:
    if argv[:1] == ["-s"]:
        argv = argv[2:]
    state = (HOME / "state").read_text().strip()
    if state in SAYS:
        sys.stderr.write(SAYS[state] + "\n")
        return 1
    command, *rest = argv
    if command == "get-state":
        sys.stdout.write("device\n")
        return 0
    if command == "shell":
        return shell(state, *rest)
    return push(state, *rest) if command == "push" else pull(*rest)


def here(text: str) -> str:
    return text.replace(STORAGE, str(HOME / "phone"))


def shell(state: str, script: str) -> int:
    count = HOME / "shells"
    count.write_text(str(int(count.read_text() or 0) + 1) if count.exists() else "1")
    if state.startswith("lost at ") and state.removeprefix("lost at ") in script:
        (HOME / "state").write_text("absent")
        return 255  # the cable is out: adb ends without a word
    path = f"{HOME / 'bin'}:/usr/bin:/bin"
    return subprocess.run(["/bin/sh", "-c", here(script)], check=False, env={**os.environ, "PATH": path}).returncode


def push(state: str, source: str, target: str) -> int:
    if state == "full":
        sys.stderr.write(
            f"adb: error: failed to copy '{source}' to '{target}': remote write failed: No space left on device\n"
        )
        return 1
    shutil.copyfile(source, here(target))
    sys.stdout.write(f"{source}: 1 file pushed, 0 skipped.\n")
    return 0


def pull(source: str, target: str) -> int:
    shutil.copyfile(here(source), target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
