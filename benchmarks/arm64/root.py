"""The emulated computer: a root folder of ARM programs in the user's cache, and how something is run in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightseg
from lightseg.errors import Unsupported

EMULATOR = "qemu-aarch64"
CPU = "cortex-a76"
"""A big core of 2018: NEON with float16 and dot products, no SVE."""
FORMAT = 2
"""Of what the setup leaves: 2 has ncnn, and counts float16 multiply-adds apart."""
SETUP = "lightseg-bench --device arm64 --setup"
PLUGIN_API = ((4, 2), (9, 0))
"""qemu releases, from and before, that take plugins of API version 1."""
RUNS_HERE = (".tflite", ".onnx", ".ncnn")
"""The files that something in the emulated computer runs."""
NEEDS = {EMULATOR: "qemu-user", "cc": "gcc", "apt-get": "apt", "dpkg-deb": "dpkg"}
"""Programs and the Debian package each comes in; the last three are needed for the setup only."""


@dataclass(frozen=True)
class Root:
    """``folder`` holds ``root/`` (what the guest sees as /), ``count.so`` and ``ready.json``."""

    folder: Path

    @property
    def system(self) -> Path:
        return self.folder / "root"

    @property
    def plugin(self) -> Path:
        return self.folder / "count.so"

    @property
    def marker(self) -> Path:
        return self.folder / "ready.json"

    @property
    def facts(self) -> dict[str, Any]:
        """What the setup wrote last of all: the guest's Python and packages. Empty where it has not ended well."""
        try:
            facts = json.loads(self.marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) and facts.get("format") == FORMAT else {}

    def command(self, program: Sequence[str], counts: Path | None = None) -> list[str]:
        """``python program`` in the guest; instructions between marks go to the file ``counts``.

        The guest reads this package's own source from here: it needs no copy.
        """
        source = Path(lightseg.__file__).resolve().parent.parent
        path = f"{self.system}/site:{source}"
        settings = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "LD_LIBRARY_PATH": ""}
        plugin = [] if counts is None else ["-plugin", f"{self.plugin},out={counts}"]
        environment = [part for name, value in settings.items() for part in ("-E", f"{name}={value}")]
        python = self.system / "usr/bin" / f"python{self.facts.get('python', '3')}"
        return [EMULATOR, "-cpu", CPU, "-L", str(self.system), *plugin, *environment, str(python), *program]


def default_root() -> Root:
    """In the user's cache."""
    from lightseg.weights import cache_dir

    return Root(cache_dir() / "arm64")


def missing(programs: Sequence[str]) -> str | None:
    """One line naming what has to be installed first; None where everything is there."""
    absent = sorted({NEEDS[program] for program in programs if shutil.which(program) is None})
    if not absent:
        return None
    return f"the emulated ARM processor needs {' and '.join(absent)}; install with: apt-get install {' '.join(absent)}"


def why_not(root: Root) -> str | None:
    """The reason nothing can be emulated here, with what to type; None when it can."""
    return (
        missing([EMULATOR])
        or _emulator()
        or (None if root.facts else f"no ARM programs yet, or those of an earlier release; run: {SETUP}")
    )


def require(root: Root) -> None:
    """Errors: `Unsupported` in one line."""
    reason = why_not(root)
    if reason:
        raise Unsupported(f"--device arm64: {reason}")


def _emulator() -> str | None:
    """Why this qemu cannot count."""
    version = emulator_version()
    first, past = PLUGIN_API
    if version is None or not first <= version < past:
        found = "an unreadable version" if version is None else ".".join(map(str, version))
        return f"counting needs {EMULATOR} from {first[0]}.{first[1]} to before {past[0]}.{past[1]}, not {found}"
    if "-plugin" not in _said("-help"):
        return f"this {EMULATOR} takes no plugins; install the dynamic one: apt-get install qemu-user (not -static)"
    return None


def emulator_version() -> tuple[int, int] | None:
    found = re.search(r"version (\d+)\.(\d+)", _said("--version"))
    return (int(found[1]), int(found[2])) if found else None


def _said(option: str) -> str:
    try:
        return subprocess.run([EMULATOR, option], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
