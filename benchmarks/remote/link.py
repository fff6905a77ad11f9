"""A way to a device: run a line of shell there, carry files there. What is not there in time is one line."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

from lightseg.benchmarks.timing.process import Failed, Lost

SECONDS = 120.0
"""How long a short errand on the device may take; measuring has a limit of its own."""


class Unreachable(Lost):
    """The device cannot be reached, or not any longer."""


class Link(Protocol):
    """ssh or adb to one device."""

    @property
    def name(self) -> str:
        """As given to ``--device``."""

    @property
    def temporary(self) -> str:
        """The folder in which a folder of ours is made, as the shell there reads it."""

    def command(self, script: str) -> list[str]:
        """The command here that runs a line of POSIX shell there, connected to its standard streams."""

    def broken(self, code: int, said: str) -> str | None:
        """Why the link itself failed, in one line; None where ``code`` is that of the script."""

    def put(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write files, by their path below ``folder``. Errors: `Failed`, `Unreachable`."""


def run(link: Link, script: str, given: bytes = b"") -> str:
    """What the script printed. Errors: `Unreachable`; `Failed` with the device's own last word."""
    code, out, said = attempt(link.command(script), given)
    check(link, code, said)
    return out


def check(link: Link, code: int, said: str) -> None:
    """Errors: `Unreachable` where the link failed, `Failed` where what ran there did."""
    if code == 0:
        return
    line = link.broken(code, said)
    if line is not None:
        raise Unreachable(line)
    raise Failed(refusal(link.name, code, said))


def attempt(command: Sequence[str], given: bytes = b"", seconds: float = SECONDS) -> tuple[int, str, str]:
    """Exit status, standard output and standard error. Errors: `Unreachable` where nothing came in time."""
    try:
        done = subprocess.run(list(command), input=given, capture_output=True, check=False, timeout=seconds)
    except FileNotFoundError:
        raise Unreachable(f"there is no program {command[0]} here; install it first") from None
    except subprocess.TimeoutExpired:
        raise Unreachable(f"{command[0]} gave no answer within {seconds:.0f} s; see that the device is awake") from None
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def refusal(name: str, code: int, said: str) -> str:
    """What a device's failing command means for the user."""
    for words, means, hint in REFUSALS:
        cause = next((line.strip() for line in said.splitlines() if any(word in line.lower() for word in words)), None)
        if cause is not None:
            return f"{name} {means} ({cause}); {hint}"
    last = last_line(said)
    return f"{name}: the command ended with status {code}" + (f": {last}" if last else "")


REFUSALS = (
    (("no space left", "disk quota"), "is full", "free some space there, or name another folder with --remote-dir"),
    (("read-only file system", "permission denied", "no such file or directory"), "does not let us write",
     "name another folder with --remote-dir"),
)  # fmt: skip
"""What a system says, what it means, and what to do."""


def last_line(said: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else ""
